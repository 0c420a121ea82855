/** Copies files and folders to and from a rented machine through a volume: transfers reach nothing else there. */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, posix, resolve } from 'node:path'
import {
  MAX_COPY_ERROR_TEXT,
  resolveFileTarget,
  runTar,
  withCopyError,
} from '../shared/file-copy.ts'
import { CommandRefusedError, type GolemExeUnit } from './exe-unit.ts'
import type { Golem } from './packages.ts'
import { packScript, removeScript, unpackScript } from './scripts.ts'

export interface GolemFileContext {
  readonly unit: GolemExeUnit
  /** Folder of the machine that is a volume. */
  readonly volume: string
  readonly cwd: string
}

/** A file that is copied to a folder goes into it, and missing folders are created. */
export function uploadToRental(
  { unit, volume, cwd }: GolemFileContext,
  local: string,
  remote: string,
): Promise<void> {
  return withCopyFolder('upload', local, remote, async (folder) => {
    const source = resolve(local)
    const found = await stat(source)
    const isFolder = found.isDirectory()
    const packed = isFolder ? join(folder, 'packed.tar') : source
    if (isFolder) await runTar(['-cf', packed, '-C', source, '.'])
    const transfer = transferPath(volume)
    await unit.runInTurn((exe) => checkTransfer(exe.uploadFile(packed, transfer)))
    const mode = isFolder ? undefined : (found.mode & 0o777).toString(8)
    await runCopyScript(
      unit,
      unpackScript(transfer, resolveRemotePath(cwd, remote), basename(source), mode),
    )
  })
}

export function downloadFromRental(
  { unit, volume, cwd }: GolemFileContext,
  remote: string,
  local: string,
): Promise<void> {
  return withCopyFolder('download', remote, local, async (folder) => {
    const transfer = transferPath(volume)
    const kind = await runCopyScript(unit, packScript(resolveRemotePath(cwd, remote), transfer))
    const fetched = join(folder, 'fetched')
    await unit.runInTurn((exe) => checkTransfer(exe.downloadFile(transfer, fetched)))
    await unit.runScript(removeScript(transfer))
    const target = resolve(local)
    if (kind === 'folder') {
      await mkdir(target, { recursive: true })
      await runTar(['-xf', fetched, '-C', target])
      return
    }
    const path = await resolveFileTarget(target, basename(remote), local.endsWith('/'))
    await mkdir(dirname(path), { recursive: true })
    await copyFile(fetched, path)
  })
}

/** A new path in the volume. */
function transferPath(volume: string): string {
  return `${volume}/.manyhost-${randomBytes(8).toString('hex')}`
}

/** Not by `posix.resolve`: a slash at the end says that the path is a folder. */
function resolveRemotePath(cwd: string, path: string): string {
  return posix.isAbsolute(path) ? path : `${cwd}/${path}`
}

/** Calls `copy` with a temporary folder of this machine. */
async function withCopyFolder(
  verb: 'upload' | 'download',
  from: string,
  to: string,
  copy: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'manyhost-golem-'))
  try {
    await withCopyError(verb, from, to, () => copy(folder))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function checkTransfer(result: Promise<Golem.Result>): Promise<void> {
  const { result: outcome, message } = await result
  if (outcome !== 'Ok') throw new CommandRefusedError(String(message ?? 'the transfer failed'))
}

/** Resolves with the output of the script, which ends with `=` and an exit code. */
async function runCopyScript(unit: GolemExeUnit, script: string): Promise<string> {
  const output = (await unit.runScript(script)).trimEnd()
  const at = output.lastIndexOf('=')
  const [text, code] = [output.slice(0, at).trim(), output.slice(at + 1)]
  if (code !== '0') throw new Error(text.slice(-MAX_COPY_ERROR_TEXT) || `exit code ${code}`)
  return text
}
