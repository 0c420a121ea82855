/** Files that only our own user may read or write: other users of the machine must not see them, or connect to them. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Creates a file, and its folders, where they do not exist yet. The files that a database creates beside it get the same
 * rights. A file that exists keeps its rights, because somebody may have widened them on purpose.
 */
export function createPrivateFile(path: string): void {
  if (existsSync(path)) return
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
}

/** Call this when a server listens: every user who may write to the socket may connect. An abstract socket has no rights. */
export function makeSocketPrivate(where: object): void {
  if (!('path' in where) || typeof where.path !== 'string' || where.path.startsWith('\0')) return
  try {
    chmodSync(where.path, 0o600)
  } catch {
    // The socket was removed already, or its file system has no rights.
  }
}
