/** Files and folders to and from a rented machine, by way of a volume: transfers reach nothing else there. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, posix, resolve } from 'node:path'
import { describe, ManyhostError } from '../../src/core/errors.ts'
import type { Golem } from './client.ts'
import { offer, place, remove } from './script.ts'
import { Refused, type Unit } from './unit.ts'

/** What tar said of a failure, in characters. */
const MOST_SAID = 2_000

export interface Copies {
  readonly unit: Unit
  /** Folder of the machine that is a volume. */
  readonly volume: string
  readonly cwd: string
}

/** As the command cp: a file that is copied to a folder goes into it, and missing folders are made. */
export function upload(
  { unit, volume, cwd }: Copies,
  local: string,
  remote: string,
): Promise<void> {
  return named('upload', local, remote, async (folder) => {
    const source = resolve(local)
    const facts = await stat(source)
    const isFolder = facts.isDirectory()
    const packed = isFolder ? join(folder, 'packed.tar') : source
    if (isFolder) await tar(['-cf', packed, '-C', source, '.'])
    const way = wayThrough(volume)
    await unit.ask((exe) => transferred(exe.uploadFile(packed, way)))
    const mode = isFolder ? undefined : (facts.mode & 0o777).toString(8)
    await told(unit, place(way, within(cwd, remote), basename(source), mode))
  })
}

export function download(
  { unit, volume, cwd }: Copies,
  remote: string,
  local: string,
): Promise<void> {
  return named('download', remote, local, async (folder) => {
    const way = wayThrough(volume)
    const kind = await told(unit, offer(within(cwd, remote), way))
    const fetched = join(folder, 'fetched')
    await unit.ask((exe) => transferred(exe.downloadFile(way, fetched)))
    await unit.shell(remove(way))
    const target = resolve(local)
    if (kind === 'folder') {
      await mkdir(target, { recursive: true })
      await tar(['-xf', fetched, '-C', target])
      return
    }
    const isInto =
      local.endsWith('/') ||
      (await stat(target).then(
        (one) => one.isDirectory(),
        () => false,
      ))
    const path = isInto ? join(target, basename(remote)) : target
    await mkdir(dirname(path), { recursive: true })
    await copyFile(fetched, path)
  })
}

function wayThrough(volume: string): string {
  return `${volume}/.manyhost-${randomBytes(8).toString('hex')}`
}

/** A slash at the end says that it is a folder. */
function within(cwd: string, path: string): string {
  return posix.isAbsolute(path) ? path : `${cwd}/${path}`
}

async function named(
  verb: string,
  from: string,
  to: string,
  copy: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'manyhost-golem-'))
  try {
    await copy(folder)
  } catch (cause) {
    const text = `cannot ${verb} '${from}' to '${to}': ${describe(cause)}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function transferred(result: Promise<Golem.Result>): Promise<void> {
  const { result: how, message } = await result
  if (how !== 'Ok') throw new Refused(String(message ?? 'the transfer failed'))
}

/** The script prints, last of all, `=` and its exit code. */
async function told(unit: Unit, script: string): Promise<string> {
  const said = (await unit.shell(script)).trimEnd()
  const at = said.lastIndexOf('=')
  const [text, code] = [said.slice(0, at).trim(), said.slice(at + 1)]
  if (code !== '0') throw new Error(text.slice(-MOST_SAID) || `exit code ${code}`)
  return text
}

/** This machine's tar. */
async function tar(args: readonly string[]): Promise<void> {
  const child = spawn('tar', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    if (said.length < MOST_SAID) said += chunk.toString()
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(said.trim() || `tar ended with exit code ${code}`)
}
