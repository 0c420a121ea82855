/** Packs files and folders into tar archives, and unpacks them. Needs the package `tar-stream`. */
import { createReadStream, createWriteStream } from 'node:fs'
import { copyFile, lstat, mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Header, Pack } from 'tar-stream'
import { ManyhostError } from '../../src/core/errors.ts'

/** Adds a file, or a folder with all its contents, under that name. */
export async function addToArchive(archive: Pack, source: string, name: string): Promise<void> {
  const found = await lstat(source)
  const common = { name, mode: found.mode & 0o7777, mtime: found.mtime }
  if (found.isDirectory()) {
    archive.entry({ ...common, name: `${name}/`, type: 'directory' })
    for (const one of await readdir(source))
      await addToArchive(archive, join(source, one), `${name}/${one}`)
  } else if (found.isSymbolicLink()) {
    archive.entry({ ...common, type: 'symlink', linkname: await readlink(source) })
  } else if (found.isFile()) {
    // The file may grow meanwhile: the archive gets the size that it has now.
    const { size } = found
    const entry = archive.entry({ ...common, size })
    if (size === 0) entry.end('')
    else await pipeline(createReadStream(source, { end: size - 1 }), entry)
  }
}

interface ArchiveLink {
  readonly path: string
  readonly to: string
  readonly isHard: boolean
}

/** Unpacks an archive below `target`. No entry can get out of `target`, whatever the container has put into the archive. */
export async function extractArchive(archive: Readable, target: string): Promise<void> {
  const links: ArchiveLink[] = []
  const { extract: open } = await loadTarStream()
  const entries = archive.pipe(open())
  archive.once('error', (error) => entries.destroy(error))
  for await (const entry of entries) {
    const { name, type, mode = 0o644, linkname = '' } = entry.header as Header
    const path = resolveBelow(target, name)
    if (type === 'directory') await mkdir(path, { recursive: true })
    else if (type === 'file' || type === 'contiguous-file') {
      await mkdir(dirname(path), { recursive: true })
      await pipeline(entry, createWriteStream(path, { mode: mode & 0o777 }))
    } else if (type === 'symlink') links.push({ path, to: linkname, isHard: false })
    else if (type === 'link') links.push({ path, to: resolveBelow(target, linkname), isHard: true })
    entry.resume()
  }
  // Links come last, so that no file is written through a link that leads elsewhere.
  for (const { path, to, isHard } of links.filter(({ isHard }) => isHard).concat(links)) {
    if (isHard) await copyFile(to, path).catch(() => undefined)
    else {
      await rm(path, { force: true })
      await symlink(to, path)
    }
  }
}

/** The first part of a name is the name of the file or folder on the other machine, which `target` replaces. */
function resolveBelow(target: string, name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..'))
    throw new Error(`the archive has an entry outside its folder: '${name}'`)
  return join(target, ...parts.slice(1))
}

/** @throws ManyhostError MANYHOST_UNSUPPORTED without tar-stream */
export async function loadTarStream(): Promise<typeof import('tar-stream')> {
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
