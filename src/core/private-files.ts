/** Files that are for our own user alone: what they hold, or let in, is no business of others on this machine. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Makes a file, and the folders that it is in, where they are not there yet. What a database puts beside it takes its
 * rights. One that is there keeps its rights: they may have been widened on purpose.
 */
export function createPrivateFile(path: string): void {
  if (existsSync(path)) return
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
}

/** To be called when a server listens: whoever may write to a socket may connect. An abstract one has no rights. */
export function makeSocketPrivate(where: object): void {
  if (!('path' in where) || typeof where.path !== 'string' || where.path.startsWith('\0')) return
  try {
    chmodSync(where.path, 0o600)
  } catch {
    // Removed already, or on a file system without rights.
  }
}
