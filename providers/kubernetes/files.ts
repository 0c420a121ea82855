/** Files and folders to a pod and from it: its own tar, through a command. */
import { stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { OutputTail } from '../shared/output.ts'
import { addToArchive, extractArchive, loadTarStream } from '../shared/tar.ts'
import { executeInPod, type PodCommand, type PodContainer } from './exec.ts'

/** What the pod said of a failure, in characters. */
const MAX_ERROR_TEXT = 2_000
/** How much of an archive is sent as one piece at least, in bytes; the pod's dd takes as much memory. */
const MIN_CHUNK_BYTES = 262_144

/**
 * The connection cannot tell the end of its input, and some tars (busybox's) read on behind the end of the archive. So
 * it is sent in pieces, each after a line with its size; the last one is of none.
 */
const UNPACK_SCRIPT = `while IFS= read -r size && [ "$size" -gt 0 ]; do
dd bs="$size" count=1 iflag=fullblock 2>/dev/null || break; done | tar -xf -`

/** A file to a folder goes into it, as with the command cp. @throws ManyhostError MANYHOST_START_FAILED */
export async function uploadToPod(
  target: PodContainer,
  local: string,
  remote: string,
  cwd: string | undefined,
): Promise<void> {
  await withCopyError('upload', local, remote, async () => {
    const source = resolve(local)
    const { pack } = await loadTarStream()
    const isFolder = (await stat(source)).isDirectory()
    const path = posix.resolve(cwd ?? '/', remote)
    const name = basename(path)
    const into = posix.dirname(path)
    // A file whose target is a folder goes into that folder, under its own name.
    const script = isFolder
      ? `mkdir -p -- ${quoteShellWord(path)} && ${UNPACK_SCRIPT} -C ${quoteShellWord(path)}`
      : `if [ -d ${quoteShellWord(path)} ] ${remote.endsWith('/') ? `|| mkdir -p -- ${quoteShellWord(path)}` : ''}; then into=${quoteShellWord(path)}; as=${quoteShellWord(basename(source))}; else into=${quoteShellWord(into)}; as=${quoteShellWord(name)}; fi
part=$into/.manyhost-$$
mkdir -p -- "$into" && mkdir -- "$part" && ${UNPACK_SCRIPT} -C "$part" && mv -f -- "$part/file" "$into/$as" && rmdir -- "$part"`
    const executed = await executeInPod(target, script)
    executed.stdout.resume()
    const said = collectErrors(executed)
    const archive = pack()
    const packed = addToArchive(archive, source, isFolder ? '.' : 'file').then(
      () => archive.finalize(),
      (error) => archive.destroy(asError(error)),
    )
    const sent = (async () => {
      for await (const piece of toChunks(archive)) {
        await executed.write(Buffer.concat([Buffer.from(`${piece.length}\n`), piece]))
      }
      await packed
      await executed.write(Buffer.from('0\n'))
    })()
    await waitForCopy(executed, sent, said)
  })
}

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function downloadFromPod(
  target: PodContainer,
  remote: string,
  local: string,
  cwd: string | undefined,
): Promise<void> {
  await withCopyError('download', remote, local, async () => {
    const source = posix.resolve(cwd ?? '/', remote)
    const path = quoteShellWord(source)
    const base = quoteShellWord(basename(source))
    // What it is, is in the name of the first entry: a folder's ends with a slash.
    const look = await executeInPod(target, `[ -d ${path} ] && echo folder || echo file`)
    let kind = ''
    look.stdout.on('data', (chunk) => {
      if (kind.length < 10) kind += chunk
    })
    look.stderr.resume()
    await look.ended
    const isThere = await stat(resolve(local)).then(
      (facts) => facts.isDirectory(),
      () => false,
    )
    const isInto = kind.trim() !== 'folder' && (local.endsWith('/') || isThere)
    const to = isInto ? join(resolve(local), basename(source)) : resolve(local)
    const script = `cd -- "$(dirname -- ${path})" && exec tar -cf - ${base}`
    const executed = await executeInPod(target, script)
    const said = collectErrors(executed)
    await waitForCopy(executed, extractArchive(executed.stdout, to), said)
  })
}

/** Neither many small ones, each of which costs the pod a process, nor one of all. */
async function* toChunks(archive: AsyncIterable<unknown>): AsyncGenerator<Buffer> {
  let kept: Buffer[] = []
  let size = 0
  for await (const chunk of archive as AsyncIterable<Buffer>) {
    kept.push(chunk)
    size += chunk.length
    if (size < MIN_CHUNK_BYTES) continue
    yield Buffer.concat(kept)
    kept = []
    size = 0
  }
  if (size > 0) yield Buffer.concat(kept)
}

function collectErrors({ stderr }: PodCommand): OutputTail {
  const said = new OutputTail(MAX_ERROR_TEXT)
  stderr.on('data', (chunk: Buffer) => said.add(chunk.toString()))
  return said
}

/** A script that ends early, of a full disk perhaps, has a better reason than the stream that it broke. */
async function waitForCopy(
  executed: PodCommand,
  streamed: Promise<void>,
  said: OutputTail,
): Promise<void> {
  const settled = streamed.then(
    () => undefined,
    (error: unknown) => asError(error),
  )
  try {
    const first = await Promise.race([executed.ended, settled.then((error) => error)])
    if (first instanceof Error && said.text === '') throw first
    const { code } = await executed.ended
    if (code !== 0) throw new Error(said.text.trim() || `exit code ${code}`)
    const error = await settled
    if (error) throw error
  } finally {
    executed.disconnect()
  }
}

async function withCopyError(verb: string, from: string, to: string, copy: () => Promise<void>) {
  try {
    await copy()
  } catch (cause) {
    if (cause instanceof ManyhostError && cause.code === 'MANYHOST_UNSUPPORTED') throw cause
    const text = `cannot ${verb} '${from}' to '${to}': ${describeError(cause).trim()}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}
