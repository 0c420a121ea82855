/** Sends files and folders over a link: one conversation, in which each file is an entry followed by its bytes. */
import { createReadStream, createWriteStream } from 'node:fs'
import { lstat, mkdir, mkdtemp, readdir, readlink, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { code, type HostingEnd, type PoCo, type PostingEnd } from '../../src/wire/index.ts'
import { parseCount, parseText } from './parse-message.ts'

/** Files, folders and links of one tree. */
const MAX_ENTRIES = 1_000_000
/** Name of the root of the tree while it is sent. */
export const ROOT_NAME = 'tree'

/** Sends the file or folder `source`. Resolves when the peer has received all of it. */
export async function sendTree(po: PostingEnd, source: string, signal: AbortSignal): Promise<void> {
  // If the root is a symbolic link, its target is sent. Links inside the tree are sent as links.
  const root = await stat(source)
  await po.co(
    async (co) => {
      await sendEntry(co, source, ROOT_NAME, root)
      await co.sendCode('finish()')
      await co.waitCompleted()
    },
    { signal },
  )
}

async function sendEntry(
  co: PoCo,
  source: string,
  name: string,
  known?: Awaited<ReturnType<typeof stat>>,
): Promise<void> {
  const stats = known ?? (await lstat(source))
  const mode = Number(stats.mode) & 0o777
  if (stats.isDirectory()) {
    await co.sendCode(code`entry('folder', ${name}, ${mode}, 0, '')`)
    for (const one of await readdir(source))
      await sendEntry(co, join(source, one), `${name}/${one}`)
  } else if (stats.isSymbolicLink()) {
    await co.sendCode(code`entry('link', ${name}, ${mode}, 0, ${await readlink(source)})`)
  } else if (stats.isFile()) {
    // If the file grows meanwhile, only this many bytes are sent. If it shrinks, the conversation fails.
    const size = Number(stats.size)
    await co.sendCode(code`entry('file', ${name}, ${mode}, ${size}, '')`)
    if (size > 0) await co.sendData(createReadStream(source, { end: size - 1 }))
  }
}

/** A tree that is being received, in a new folder that only this user can enter. */
export class ReceivedTree {
  readonly folder: string
  readonly #links: { readonly path: string; readonly to: string }[] = []
  #numEntries = 0

  private constructor(folder: string) {
    this.folder = folder
  }

  static async create(): Promise<ReceivedTree> {
    return new ReceivedTree(await mkdtemp(join(tmpdir(), 'manyhost-files-')))
  }

  get rootPath(): string {
    return join(this.folder, ROOT_NAME)
  }

  /** What the sender may call. */
  createHandlers(ho: HostingEnd): Record<string, (...args: unknown[]) => Promise<void>> {
    return {
      entry: async (kind, name, mode, size, to) => {
        const { co } = ho
        if (++this.#numEntries > MAX_ENTRIES)
          throw createTreeError(`a tree may have ${MAX_ENTRIES} entries`)
        const path = this.#resolveEntry(parseText(name, 4_096))
        const rights = parseCount(mode) & 0o777
        if (kind === 'folder') await mkdir(path, { recursive: true, mode: rights | 0o700 })
        else if (kind === 'link') this.#links.push({ path, to: parseText(to, 4_096) })
        else {
          await mkdir(dirname(path), { recursive: true })
          const file = createWriteStream(path, { mode: rights, flags: 'wx' })
          if (parseCount(size) === 0) await new Promise<void>((done) => file.end(() => done()))
          else await pipeline(Readable.from(co.recvStream(parseCount(size))), file)
        }
      },
      finish: async () => {
        // Links are made last, so that no file is written through a link to another folder.
        for (const { path, to } of this.#links.splice(0)) await symlink(to, path)
      },
    }
  }

  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true })
  }

  #resolveEntry(name: string): string {
    const parts = name.split('/')
    const isPlain = parts.every((part) => part !== '' && part !== '.' && part !== '..')
    if (!isPlain || parts[0] !== ROOT_NAME || name.includes('\0'))
      throw createTreeError(`a name must stay inside the tree, got ${describe(name)}`)
    return join(this.folder, ...parts)
  }
}

function createTreeError(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', `the files are refused: ${why}`)
}
