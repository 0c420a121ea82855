/** Files and folders to and from a rented machine, by way of a volume: transfers reach nothing else there. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, posix, resolve } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { CommandRefusedError, type GolemExeUnit } from './exe-unit.ts'
import type { Golem } from './packages.ts'
import { packScript, removeScript, unpackScript } from './scripts.ts'

/** What tar said of a failure, in characters. */
const MAX_ERROR_TEXT = 2_000

export interface GolemFileContext {
  readonly unit: GolemExeUnit
  /** Folder of the machine that is a volume. */
  readonly volume: string
  readonly cwd: string
}

/** As the command cp: a file that is copied to a folder goes into it, and missing folders are made. */
export function uploadToRental(
  { unit, volume, cwd }: GolemFileContext,
  local: string,
  remote: string,
): Promise<void> {
  return withCopyFolder('upload', local, remote, async (folder) => {
    const source = resolve(local)
    const facts = await stat(source)
    const isFolder = facts.isDirectory()
    const packed = isFolder ? join(folder, 'packed.tar') : source
    if (isFolder) await runTar(['-cf', packed, '-C', source, '.'])
    const way = volumePath(volume)
    await unit.runInTurn((exe) => checkTransfer(exe.uploadFile(packed, way)))
    const mode = isFolder ? undefined : (facts.mode & 0o777).toString(8)
    await runCopyScript(
      unit,
      unpackScript(way, resolveRemotePath(cwd, remote), basename(source), mode),
    )
  })
}

export function downloadFromRental(
  { unit, volume, cwd }: GolemFileContext,
  remote: string,
  local: string,
): Promise<void> {
  return withCopyFolder('download', remote, local, async (folder) => {
    const way = volumePath(volume)
    const kind = await runCopyScript(unit, packScript(resolveRemotePath(cwd, remote), way))
    const fetched = join(folder, 'fetched')
    await unit.runInTurn((exe) => checkTransfer(exe.downloadFile(way, fetched)))
    await unit.runScript(removeScript(way))
    const target = resolve(local)
    if (kind === 'folder') {
      await mkdir(target, { recursive: true })
      await runTar(['-xf', fetched, '-C', target])
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

function volumePath(volume: string): string {
  return `${volume}/.manyhost-${randomBytes(8).toString('hex')}`
}

/** A slash at the end says that it is a folder. */
function resolveRemotePath(cwd: string, path: string): string {
  return posix.isAbsolute(path) ? path : `${cwd}/${path}`
}

async function withCopyFolder(
  verb: string,
  from: string,
  to: string,
  copy: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'manyhost-golem-'))
  try {
    await copy(folder)
  } catch (cause) {
    const text = `cannot ${verb} '${from}' to '${to}': ${describeError(cause)}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function checkTransfer(result: Promise<Golem.Result>): Promise<void> {
  const { result: how, message } = await result
  if (how !== 'Ok') throw new CommandRefusedError(String(message ?? 'the transfer failed'))
}

/** The script prints, last of all, `=` and its exit code. */
async function runCopyScript(unit: GolemExeUnit, script: string): Promise<string> {
  const said = (await unit.runScript(script)).trimEnd()
  const at = said.lastIndexOf('=')
  const [text, code] = [said.slice(0, at).trim(), said.slice(at + 1)]
  if (code !== '0') throw new Error(text.slice(-MAX_ERROR_TEXT) || `exit code ${code}`)
  return text
}

/** This machine's tar. */
async function runTar(args: readonly string[]): Promise<void> {
  const child = spawn('tar', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    if (said.length < MAX_ERROR_TEXT) said += chunk.toString()
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(said.trim() || `tar ended with exit code ${code}`)
}
