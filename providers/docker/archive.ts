/** ContainerFiles and folders to a container and from it, as the archives that the engine speaks. */
import { stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { addToArchive, extractArchive, loadTarStream } from '../shared/tar.ts'
import type { DockerContainer, DockerEngine } from './engine.ts'

/** Longest that one archive may take, in ms. */
const ARCHIVE_TIMEOUT = 1_800_000

export interface ContainerFiles {
  readonly engine: DockerEngine
  readonly container: string
  /** What relative names in the container are relative to. */
  readonly cwd: string
}

/** A file to a folder goes into it, as with the command cp. @throws ManyhostError MANYHOST_START_FAILED */
export async function uploadToContainer(
  files: ContainerFiles,
  local: string,
  remote: string,
): Promise<void> {
  try {
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
    // Not made again: what was read of the archive is gone.
    const answer = files.engine.call(
      'upload',
      (docker, signal) => put(docker.getContainer(files.container), signal),
      { retryMs: 0, timeoutMs: ARCHIVE_TIMEOUT },
    )
    const [taken] = await Promise.all([answer, packed])
    ;(taken as NodeJS.ReadableStream | undefined)?.resume?.()
  } catch (cause) {
    throw createCopyError('upload', local, remote, cause)
  }
}

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function downloadFromContainer(
  files: ContainerFiles,
  remote: string,
  local: string,
): Promise<void> {
  try {
    const source = posix.resolve(files.cwd, remote)
    let target = resolve(local)
    const isFolder = await isRemoteFolder(files, source)
    const isThere = await stat(target).then(
      (facts) => facts.isDirectory(),
      () => false,
    )
    if (!isFolder && (local.endsWith('/') || isThere)) target = join(target, posix.basename(source))
    const archive = (await files.engine.call('download', (docker) =>
      docker.getContainer(files.container).getArchive({ path: source }),
    )) as Readable
    await extractArchive(archive, target)
  } catch (cause) {
    throw createCopyError('download', remote, local, cause)
  }
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
    // The highest bit, as Go's os.ModeDir has it.
    return mode >= 2 ** 31
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false
    throw error
  }
}

function createCopyError(verb: string, from: string, to: string, cause: unknown): ManyhostError {
  if (cause instanceof ManyhostError && cause.code === 'MANYHOST_UNSUPPORTED') return cause
  const why = describeError(cause).trim()
  return new ManyhostError('MANYHOST_START_FAILED', `cannot ${verb} '${from}' to '${to}': ${why}`, {
    cause,
  })
}
