/** Files and folders to a container and from it, as the archives that the engine speaks. */
import { createReadStream, createWriteStream } from 'node:fs'
import { copyFile, lstat, mkdir, readdir, readlink, rm, stat, symlink } from 'node:fs/promises'
import { basename, dirname, join, posix, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Header, Pack } from 'tar-stream'
import { asError, describe, ManyhostError } from '../../src/errors.ts'
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

async function add(archive: Pack, source: string, name: string): Promise<void> {
  const facts = await lstat(source)
  const common = { name, mode: facts.mode & 0o7777, mtime: facts.mtime }
  if (facts.isDirectory()) {
    archive.entry({ ...common, name: `${name}/`, type: 'directory' })
    for (const one of await readdir(source)) await add(archive, join(source, one), `${name}/${one}`)
  } else if (facts.isSymbolicLink()) {
    archive.entry({ ...common, type: 'symlink', linkname: await readlink(source) })
  } else if (facts.isFile()) {
    // Of a file that grows meanwhile, so much and no more.
    const { size } = facts
    const entry = archive.entry({ ...common, size })
    if (size === 0) entry.end('')
    else await pipeline(createReadStream(source, { end: size - 1 }), entry)
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

interface Link {
  readonly path: string
  readonly to: string
  readonly isHard: boolean
}

/** All that is in the archive lands below `target`, whatever the container has put into it. */
async function extract(archive: Readable, target: string): Promise<void> {
  const links: Link[] = []
  const { extract: open } = await tar()
  const entries = archive.pipe(open())
  archive.once('error', (error) => entries.destroy(error))
  for await (const entry of entries) {
    const { name, type, mode = 0o644, linkname = '' } = entry.header as Header
    const path = below(target, name)
    if (type === 'directory') await mkdir(path, { recursive: true })
    else if (type === 'file' || type === 'contiguous-file') {
      await mkdir(dirname(path), { recursive: true })
      await pipeline(entry, createWriteStream(path, { mode: mode & 0o777 }))
    } else if (type === 'symlink') links.push({ path, to: linkname, isHard: false })
    else if (type === 'link') links.push({ path, to: below(target, linkname), isHard: true })
    entry.resume()
  }
  // Last, so that no file is written through a link that leads elsewhere.
  for (const { path, to, isHard } of links.filter(({ isHard }) => isHard).concat(links)) {
    if (isHard) await copyFile(to, path).catch(() => undefined)
    else {
      await rm(path, { force: true })
      await symlink(to, path)
    }
  }
}

/** The first part of a name is that of what was asked for, which has another one here. */
function below(target: string, name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) throw new Error(`the archive holds the name '${name}'`)
  return join(target, ...parts.slice(1))
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

async function tar(): Promise<typeof import('tar-stream')> {
  try {
    return await import('tar-stream')
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_UNSUPPORTED',
      'upload and download need the package tar-stream: npm install tar-stream',
      { cause },
    )
  }
}

function failure(verb: string, from: string, to: string, cause: unknown): ManyhostError {
  if (cause instanceof ManyhostError && cause.code === 'MANYHOST_UNSUPPORTED') return cause
  const why = describe(cause).trim()
  return new ManyhostError('MANYHOST_START_FAILED', `cannot ${verb} '${from}' to '${to}': ${why}`, {
    cause,
  })
}
