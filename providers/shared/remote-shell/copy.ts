/** Files and folders to and from a machine that has a shell and, for folders, tar. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { asError, describeError, ManyhostError } from '../../../src/core/errors.ts'
import { quoteShellWord } from '../../../src/posix/shell-words.ts'
import type { RemoteMachine, RemoteShell } from './machine.ts'
import { sendScript } from './shell.ts'

/** What the machine said of a failure, in characters. */
const MAX_ERROR_TEXT = 2_000

/** A first line that is longer is none of ours, in bytes. */
const MAX_LINE_BYTES = 10_000

/** How much a login shell may say before it does what it is told, in bytes. */
const MAX_GREETING_BYTES = 1_048_576

/** As the command cp: a file that is copied to a folder goes into it, and missing folders are made. */
export async function uploadByShell(
  machine: RemoteMachine,
  local: string,
  remote: string,
  cwd: string | undefined,
): Promise<void> {
  await withCopyError('upload', local, remote, async () => {
    const source = resolve(local)
    const { isDirectory, mode } = await readFileInfo(source)
    // A part first: where both machines share their files, the source may be the target itself.
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
      if (isDirectory) await runTar(['-cf', '-', '-C', source, '.'], undefined, stdin)
      else await pipeline(createReadStream(source), stdin)
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
        await runTar(['-xf', '-', '-C', target], stdout, undefined)
      } else if (kind === 'file') {
        const isFolder =
          local.endsWith('/') || (await readFileInfo(target).catch(() => undefined))?.isDirectory
        const path = isFolder ? join(target, basename(remote)) : target
        await mkdir(dirname(path), { recursive: true })
        await pipeAll(stdout, createWriteStream(path))
      }
    })
  })
}

async function withCopyError(verb: string, from: string, to: string, copy: () => Promise<void>) {
  try {
    await copy()
  } catch (cause) {
    const text = `cannot ${verb} '${from}' to '${to}': ${describeError(cause)}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

async function readFileInfo(path: string): Promise<{ isDirectory: boolean; mode: string }> {
  const found = await stat(path)
  return { isDirectory: found.isDirectory(), mode: (found.mode & 0o777).toString(8) }
}

/** Runs a script in the folder and `act` on its streams; rejects when either fails, with what the script said. */
async function runCopyScript(
  machine: RemoteMachine,
  cwd: string | undefined,
  script: string,
  act: (shell: RemoteShell) => Promise<void>,
): Promise<void> {
  const shell = await machine.openShell()
  let said = ''
  shell.stderr.on('data', (chunk: Buffer) => {
    if (said.length < MAX_ERROR_TEXT) said += chunk.toString()
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
    // A script that ends early, of a full disk perhaps, has a better reason than the stream that it broke.
    const code = await Promise.race([shell.exit, acted.then((error) => (error ? -1 : shell.exit))])
    if (code !== 0 && said.trim() !== '') throw new Error(said.trim())
    if (code === undefined) throw new Error(`the connection to ${machine.name} was lost`)
    const error = await acted
    if (error) throw error
    if (code !== 0) throw new Error(`exit code ${code} on ${machine.name}`)
  } finally {
    shell.destroy()
  }
}

/**
 * Not `pipeline`: a channel of ssh may say that it is closed before all that it holds was read, and that would count as
 * the premature end of it.
 */
async function pipeAll(from: Readable, to: Writable): Promise<void> {
  // What was destroyed never says that it ends.
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
 * From one tar to the other: the reader ends at the end that the archive says, and may leave the padding behind that
 * unread. Whether it had all is what its exit code says.
 */
async function pipeArchive(from: Readable, to: Writable): Promise<void> {
  await pipeAll(from, to).catch(() => {
    from.unpipe(to)
    from.resume()
  })
}

/** This machine's tar, between a folder and a stream. */
async function runTar(
  args: readonly string[],
  from: Readable | undefined,
  to: Writable | undefined,
): Promise<void> {
  const child = spawn('tar', args, {
    stdio: [from ? 'pipe' : 'ignore', to ? 'pipe' : 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    if (said.length < MAX_ERROR_TEXT) said += chunk.toString()
  })
  const exited = once(child, 'close')
  const streams = [
    from && child.stdin ? pipeArchive(from, child.stdin) : undefined,
    to && child.stdout ? pipeArchive(child.stdout, to) : undefined,
  ]
  const [[code]] = await Promise.all([exited, ...streams])
  if (code !== 0) throw new Error(said.trim() || `tar ended with exit code ${code}`)
}

/**
 * Reads up to a line that is this mark, whatever comes before it, and leaves the rest in the stream.
 * @throws Error with the last of what came, where the mark does not come
 */
export async function skipToMark(stream: Readable, mark: string): Promise<void> {
  const wanted = Buffer.from(`${mark}\n`)
  let held = Buffer.alloc(0)
  for (let size = 0; ; ) {
    const chunk = stream.read() as Buffer | null
    if (chunk === null) {
      if (stream.readableEnded || stream.destroyed)
        throw new Error(`it ended${quoteLastOutput(held)}`)
      await waitUntilReadable(stream)
      continue
    }
    size += chunk.length
    held = Buffer.concat([held, chunk])
    const at = held.indexOf(wanted)
    if (at >= 0) {
      const rest = held.subarray(at + wanted.length)
      if (rest.length > 0) stream.unshift(rest)
      return
    }
    if (size > MAX_GREETING_BYTES)
      throw new Error(`it does not end to talk${quoteLastOutput(held)}`)
    // A mark may come in two pieces; the rest is kept for the error alone.
    held = held.subarray(-1_000)
  }
}

function quoteLastOutput(text: Buffer): string {
  const last = text.toString().trim().replaceAll(/\s+/g, ' ').slice(-200)
  return last === '' ? ', saying nothing' : `, saying '${last}'`
}

/** Resolves when there is something to read, or never will be. */
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
