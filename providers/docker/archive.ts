/** Files and folders to a container and from it, as the archives that the engine speaks. */
import { stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { asError, describe, ManyhostError } from '../../src/core/errors.ts'
import { add, extract, tar } from '../tar.ts'
import type { Container, Engine } from './engine.ts'

/** Longest that one archive may take, in ms. */
const TIMEOUT = 1_800_000

export interface Files {
  readonly engine: Engine
  readonly container: string
  /** What relative names in the container are relative to. */
  readonly cwd: string
}

/** A file to a folder goes into it, as with the command cp. @throws ManyhostError MANYHOST_START_FAILED */
export async function upload(files: Files, local: string, remote: string): Promise<void> {
  try {
    const source = resolve(local)
    const { pack } = await tar()
    let target = posix.resolve(files.cwd, remote)
    if (!(await stat(source)).isDirectory()) {
      const isFolder = remote.endsWith('/') || (await isRemoteFolder(files, target))
      if (isFolder) target = posix.join(target, basename(source))
    }
    const archive = pack()
    const packed = add(archive, source, target.slice(1)).then(
      () => archive.finalize(),
      (error) => archive.destroy(asError(error)),
    )
    const put = (container: Container, abortSignal: AbortSignal) =>
      container.putArchive(archive as unknown as NodeJS.ReadableStream, { path: '/', abortSignal })
    // Not made again: what was read of the archive is gone.
    const answer = files.engine.call(
      'upload',
      (docker, signal) => put(docker.getContainer(files.container), signal),
      { patience: 0, timeout: TIMEOUT },
    )
    const [taken] = await Promise.all([answer, packed])
    ;(taken as NodeJS.ReadableStream | undefined)?.resume?.()
  } catch (cause) {
    throw failure('upload', local, remote, cause)
  }
}

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function download(files: Files, remote: string, local: string): Promise<void> {
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
    await extract(archive, target)
  } catch (cause) {
    throw failure('download', remote, local, cause)
  }
}

async function isRemoteFolder({ engine, container }: Files, path: string): Promise<boolean> {
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

function failure(verb: string, from: string, to: string, cause: unknown): ManyhostError {
  if (cause instanceof ManyhostError && cause.code === 'MANYHOST_UNSUPPORTED') return cause
  const why = describe(cause).trim()
  return new ManyhostError('MANYHOST_START_FAILED', `cannot ${verb} '${from}' to '${to}': ${why}`, {
    cause,
  })
}
