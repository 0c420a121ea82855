/** Copies files and folders to a pod and from it, through a command that runs the tar of the pod. */
import { stat } from 'node:fs/promises'
import { basename, posix, resolve } from 'node:path'
import { asError } from '../../src/core/errors.ts'
import { OutputTail } from '../../src/core/output-tail.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { MAX_COPY_ERROR_TEXT, resolveFileTarget, withCopyError } from '../shared/file-copy.ts'
import { addToArchive, extractArchive, loadTarStream } from '../shared/tar.ts'
import { executeInPod, type PodCommand, type PodContainer } from './exec.ts'

/** Smallest piece of an archive that is sent, in bytes. The `dd` of the pod needs as much memory. */
const MIN_CHUNK_BYTES = 262_144

/**
 * The connection cannot signal the end of its input, and some tars (that of busybox) read on after the end of the archive.
 * So the archive is sent in pieces, each after a line with its size. The last piece has the size 0.
 */
const UNPACK_SCRIPT = `while IFS= read -r size && [ "$size" -gt 0 ]; do
dd bs="$size" count=1 iflag=fullblock 2>/dev/null || break; done | tar -xf -`

/** A file that is copied to a folder goes into it. @throws ManyhostError MANYHOST_START_FAILED */
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
    const errors = collectErrors(executed)
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
    await waitForCopy(executed, sent, errors)
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
    const look = await executeInPod(target, `[ -d ${path} ] && echo folder || echo file`)
    let kind = ''
    look.stdout.on('data', (chunk) => {
      if (kind.length < 10) kind += chunk
    })
    look.stderr.resume()
    await look.ended
    const to =
      kind.trim() === 'folder'
        ? resolve(local)
        : await resolveFileTarget(resolve(local), basename(source), local.endsWith('/'))
    const script = `cd -- "$(dirname -- ${path})" && exec tar -cf - ${base}`
    const executed = await executeInPod(target, script)
    const errors = collectErrors(executed)
    await waitForCopy(executed, extractArchive(executed.stdout, to), errors)
  })
}

/** Joins small pieces, because each piece costs the pod a process; one piece for all would need too much memory. */
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
  const errors = new OutputTail(MAX_COPY_ERROR_TEXT)
  stderr.on('data', (chunk: Buffer) => errors.append(chunk.toString()))
  return errors
}

/** A script that ends early, for example because the disk is full, has a better reason than the stream that it broke. */
async function waitForCopy(
  executed: PodCommand,
  streamed: Promise<void>,
  errors: OutputTail,
): Promise<void> {
  const settled = streamed.then(
    () => undefined,
    (error: unknown) => asError(error),
  )
  try {
    const first = await Promise.race([executed.ended, settled.then((error) => error)])
    if (first instanceof Error && errors.text() === '') throw first
    const code = await executed.ended
    if (code !== 0) throw new Error(errors.text().trim() || `exit code ${code}`)
    const error = await settled
    if (error) throw error
  } finally {
    executed.disconnect()
  }
}
