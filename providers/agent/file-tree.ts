/** Files and folders over a link of their own: one conversation, an entry a file, its bytes as a blob. */
import { createReadStream, createWriteStream } from 'node:fs'
import { lstat, mkdir, mkdtemp, readdir, readlink, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ManyhostError } from '../../src/core/errors.ts'
import { code, type HostingEnd, type PoCo, type PostingEnd } from '../../src/wire/index.ts'
import { parseCount, parseText } from './parse-message.ts'

/** Entries of one tree. */
const MAX_ENTRIES = 1_000_000
/** Name of what was asked for, on its way. */
export const ROOT_NAME = 'tree'

/** Sends what is at `source`; resolves when the peer has all of it. */
export async function sendTree(po: PostingEnd, source: string, signal: AbortSignal): Promise<void> {
  // A link to a file stands for the file when it is what was asked for by its name.
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
  const facts = known ?? (await lstat(source))
  const mode = Number(facts.mode) & 0o777
  if (facts.isDirectory()) {
    await co.sendCode(code`entry('folder', ${name}, ${mode}, 0, '')`)
    for (const one of await readdir(source))
      await sendEntry(co, join(source, one), `${name}/${one}`)
  } else if (facts.isSymbolicLink()) {
    await co.sendCode(code`entry('link', ${name}, ${mode}, 0, ${await readlink(source)})`)
  } else if (facts.isFile()) {
    // Of a file that grows meanwhile, so much and no more; one that shrinks fails the conversation.
    const size = Number(facts.size)
    await co.sendCode(code`entry('file', ${name}, ${mode}, ${size}, '')`)
    if (size > 0) await co.sendData(createReadStream(source, { end: size - 1 }))
  }
}

/** Where a tree lands: a new folder, which only its user can enter. */
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

  /** What the sender calls. */
  createHandlers(ho: HostingEnd): Record<string, (...args: unknown[]) => Promise<void>> {
    return {
      entry: async (kind, name, mode, size, to) => {
        const { co } = ho
        if (++this.#numEntries > MAX_ENTRIES)
          throw createTreeError(`more than ${MAX_ENTRIES} entries`)
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
        // Last, so that no file is written through a link that leads elsewhere.
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
      throw createTreeError(`the name '${name}'`)
    return join(this.folder, ...parts)
  }
}

function createTreeError(what: string): ManyhostError {
  return new ManyhostError('MANYHOST_WIRE_PROTOCOL', `files with ${what} are not taken`)
}
