/** Copies files and folders to a container and from it, as the archives that the engine takes and gives. */
import { stat } from 'node:fs/promises'
import { basename, posix, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { asError } from '../../src/core/errors.ts'
import { resolveFileTarget, withCopyError } from '../shared/file-copy.ts'
import { addToArchive, extractArchive, loadTarStream } from '../shared/tar.ts'
import type { DockerCaller, DockerContainer } from './docker-caller.ts'

/** Longest time for one archive, in ms. */
const ARCHIVE_TIMEOUT = 1_800_000

export interface ContainerFiles {
  readonly engine: DockerCaller
  readonly container: string
  /** The folder that relative paths in the container start from. */
  readonly cwd: string
}

/** A file that is copied to a folder goes into it. @throws ManyhostError MANYHOST_START_FAILED */
export async function uploadToContainer(
  files: ContainerFiles,
  local: string,
  remote: string,
): Promise<void> {
  await withCopyError('upload', local, remote, async () => {
    const source = resolve(local)
    const { pack } = await loadTarStream()
    let target = posix.resolve(files.cwd, remote)
    if (!(await stat(source)).isDirectory()) {
      const isFolder = remote.endsWith('/') || (await isRemoteFolder(files, target))
      if (isFolder) target = posix.join(target, basename(source))
    }
    const archive = pack()
    const packed = addToArchive(archive, source, target.slice(1)).then(
      () => archive.finalize(),
      (error) => archive.destroy(asError(error)),
    )
    const put = (container: DockerContainer, abortSignal: AbortSignal) =>
      container.putArchive(archive as unknown as NodeJS.ReadableStream, { path: '/', abortSignal })
    // Not tried again: the part of the archive that was read is gone.
    const answer = files.engine.call(
      'upload',
      (docker, signal) => put(docker.getContainer(files.container), signal),
      { retryMs: 0, timeoutMs: ARCHIVE_TIMEOUT },
    )
    const [taken] = await Promise.all([answer, packed])
    ;(taken as NodeJS.ReadableStream | undefined)?.resume?.()
  })
}

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function downloadFromContainer(
  files: ContainerFiles,
  remote: string,
  local: string,
): Promise<void> {
  await withCopyError('download', remote, local, async () => {
    const source = posix.resolve(files.cwd, remote)
    const isFolder = await isRemoteFolder(files, source)
    const target = isFolder
      ? resolve(local)
      : await resolveFileTarget(resolve(local), posix.basename(source), local.endsWith('/'))
    const archive = (await files.engine.call('download', (docker) =>
      docker.getContainer(files.container).getArchive({ path: source }),
    )) as Readable
    await extractArchive(archive, target)
  })
}

async function isRemoteFolder(
  { engine, container }: ContainerFiles,
  path: string,
): Promise<boolean> {
  try {
    const answer = await engine.call('look at a file', (docker, abortSignal) =>
      docker.getContainer(container).infoArchive({ path, abortSignal }),
    )
    answer.resume?.()
    const header = answer.headers?.['x-docker-container-path-stat'] ?? ''
    const { mode } = JSON.parse(Buffer.from(header, 'base64').toString()) as { mode: number }
    // The highest bit is os.ModeDir of Go.
    return mode >= 2 ** 31
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false
    throw error
  }
}
