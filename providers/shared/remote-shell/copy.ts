/** Copies files and folders to and from a machine that has a shell and, for folders, tar. */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { asError } from '../../../src/core/errors.ts'
import { quoteShellWord } from '../../../src/posix/shell-words.ts'
import { MAX_COPY_ERROR_TEXT, resolveFileTarget, runTar, withCopyError } from '../file-copy.ts'
import type { RemoteMachine, RemoteShell } from './machine.ts'
import { sendScript } from './shell.ts'

/** Longest first line that one of our scripts prints, in bytes. */
const MAX_LINE_BYTES = 10_000

/** Longest output of a login shell before it runs our command, in bytes. */
const MAX_GREETING_BYTES = 1_048_576

/** A file that is copied to a folder goes into it, and missing folders are created. */
export async function uploadByShell(
  machine: RemoteMachine,
  local: string,
  remote: string,
  cwd: string | undefined,
): Promise<void> {
  await withCopyError('upload', local, remote, async () => {
    const source = resolve(local)
    const found = await stat(source)
    const isDirectory = found.isDirectory()
    const mode = (found.mode & 0o777).toString(8)
    // It is written to a second file first: where both machines share their files, the source may be the target itself.
    const target = quoteShellWord(remote)
    const script = isDirectory
      ? `mkdir -p -- ${target} && cd -- ${target} && exec tar -xf -`
      : `target=${target}
case $target in */) mkdir -p -- "$target" ;; esac
[ -d "$target" ] && target=$target/${quoteShellWord(basename(source))}
part=$target.manyhost-$$
mkdir -p -- "$(dirname -- "$target")" && cat >"$part" && chmod ${mode} "$part" && mv -f -- "$part" "$target"`
    await runCopyScript(machine, cwd, script, async ({ stdin, stdout }) => {
      stdout.resume()
      if (isDirectory) {
        await runTar(['-cf', '-', '-C', source, '.'], { output: true }, (tar) =>
          pipeArchive(tar.stdout as Readable, stdin),
        )
      } else await pipeline(createReadStream(source), stdin)
    })
  })
}

export async function downloadByShell(
  machine: RemoteMachine,
  remote: string,
  local: string,
  cwd: string | undefined,
): Promise<void> {
  await withCopyError('download', remote, local, async () => {
    const source = quoteShellWord(remote)
    const script = `if [ -d ${source} ]; then echo folder; cd -- ${source} && exec tar -cf - .
else echo file; exec cat -- ${source}; fi`
    await runCopyScript(machine, cwd, script, async ({ stdout }) => {
      const kind = await readFirstLine(stdout)
      const target = resolve(local)
      if (kind === 'folder') {
        await mkdir(target, { recursive: true })
        await runTar(['-xf', '-', '-C', target], { input: true }, (tar) =>
          pipeArchive(stdout, tar.stdin as Writable),
        )
      } else if (kind === 'file') {
        const path = await resolveFileTarget(target, basename(remote), local.endsWith('/'))
        await mkdir(dirname(path), { recursive: true })
        await pipeAll(stdout, createWriteStream(path))
      }
    })
  })
}

/** Runs a script in the folder, and `act` on its streams. If either fails, it rejects with the errors of the script. */
async function runCopyScript(
  machine: RemoteMachine,
  cwd: string | undefined,
  script: string,
  act: (shell: RemoteShell) => Promise<void>,
): Promise<void> {
  const shell = await machine.openShell()
  let errors = ''
  shell.stderr.on('data', (chunk: Buffer) => {
    if (errors.length < MAX_COPY_ERROR_TEXT) errors += chunk.toString()
  })
  shell.stdin.on('error', () => {})
  try {
    sendScript(
      shell.stdin,
      `${cwd === undefined ? '' : `cd -- ${quoteShellWord(cwd)} || exit 1`}\n${script}`,
    )
    const acted = act(shell).then(
      () => undefined,
      (error: unknown) => asError(error),
    )
    // A script that ends early, for example because the disk is full, has a better reason than the stream that it broke.
    const code = await Promise.race([shell.exit, acted.then((error) => (error ? -1 : shell.exit))])
    if (code !== 0 && errors.trim() !== '') throw new Error(errors.trim())
    if (code === undefined) throw new Error(`the connection to ${machine.name} was lost`)
    const error = await acted
    if (error) throw error
    if (code !== 0) throw new Error(`exit code ${code} on ${machine.name}`)
  } finally {
    shell.destroy()
  }
}

/**
 * Not `pipeline`: a channel of ssh may emit 'close' before all its data was read, and `pipeline` takes that for a premature
 * end.
 */
async function pipeAll(from: Readable, to: Writable): Promise<void> {
  // A stream that was destroyed never emits 'end'.
  const onClose = (): void => {
    if (from.destroyed && !from.readableEnded) to.destroy(new Error('the connection was cut'))
  }
  from.once('close', onClose)
  if (from.closed) onClose()
  from.pipe(to)
  try {
    await finished(to)
  } finally {
    from.off('close', onClose)
  }
}

/**
 * From one tar to the other. The reading tar stops at the end mark of the archive, and may leave the padding after it
 * unread, so an error of the stream does not count: the exit code of tar says whether it had everything.
 */
async function pipeArchive(from: Readable, to: Writable): Promise<void> {
  await pipeAll(from, to).catch(() => {
    from.unpipe(to)
    from.resume()
  })
}

/**
 * Reads up to the line `mark`, whatever comes before it, and leaves the rest in the stream.
 * @throws Error with the last output, if the mark does not come
 */
export async function skipToMark(stream: Readable, mark: string): Promise<void> {
  const markLine = Buffer.from(`${mark}\n`)
  let buffered = Buffer.alloc(0)
  for (let size = 0; ; ) {
    const chunk = stream.read() as Buffer | null
    if (chunk === null) {
      if (stream.readableEnded || stream.destroyed)
        throw new Error(`the shell ended${quoteLastOutput(buffered)}`)
      await waitUntilReadable(stream)
      continue
    }
    size += chunk.length
    buffered = Buffer.concat([buffered, chunk])
    const at = buffered.indexOf(markLine)
    if (at >= 0) {
      const rest = buffered.subarray(at + markLine.length)
      if (rest.length > 0) stream.unshift(rest)
      return
    }
    if (size > MAX_GREETING_BYTES)
      throw new Error(
        `the shell printed more than ${MAX_GREETING_BYTES} bytes before our command ran${quoteLastOutput(buffered)}`,
      )
    // The mark may come in two pieces. The rest is kept for the error alone.
    buffered = buffered.subarray(-1_000)
  }
}

function quoteLastOutput(text: Buffer): string {
  const last = text.toString().trim().replaceAll(/\s+/g, ' ').slice(-200)
  return last === '' ? ', without output' : `, its output: '${last}'`
}

/** Resolves when there is something to read, and when there will be nothing any more. */
function waitUntilReadable(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      for (const name of ['readable', 'end', 'close', 'error']) stream.off(name, wake)
      resolve()
    }
    for (const name of ['readable', 'end', 'close', 'error']) stream.on(name, wake)
  })
}

/** Reads up to the end of the first line, and leaves the rest in the stream. */
export async function readFirstLine(stream: Readable): Promise<string> {
  let line = Buffer.alloc(0)
  for (;;) {
    const chunk = stream.read() as Buffer | null
    if (chunk === null) {
      if (stream.readableEnded || stream.destroyed) return line.toString()
      await waitUntilReadable(stream)
      continue
    }
    const at = chunk.indexOf(10)
    if (at < 0) {
      line = Buffer.concat([line, chunk])
      if (line.length > MAX_LINE_BYTES) return line.toString()
      continue
    }
    if (at + 1 < chunk.length) stream.unshift(chunk.subarray(at + 1))
    return Buffer.concat([line, chunk.subarray(0, at)]).toString()
  }
}
