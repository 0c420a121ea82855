/** Rules that every `ctx.upload` and `ctx.download` follows, as the command cp does. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { describeError, ManyhostError } from '../../src/core/errors.ts'

/** Longest text of a failed copy that an error repeats, in characters. */
export const MAX_COPY_ERROR_TEXT = 2_000

/** @throws ManyhostError MANYHOST_START_FAILED for any error of `copy`; MANYHOST_UNSUPPORTED as it is */
export async function withCopyError(
  verb: 'upload' | 'download',
  from: string,
  to: string,
  copy: () => Promise<void>,
): Promise<void> {
  try {
    await copy()
  } catch (cause) {
    if (cause instanceof ManyhostError && cause.code === 'MANYHOST_UNSUPPORTED') throw cause
    const text = `cannot ${verb} '${from}' to '${to}': ${describeError(cause).trim()}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

/** Whether the path is a folder of this machine. */
export async function isLocalFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/**
 * Where a file that is copied to `target` on this machine goes: into `target` under its own name, if `target` is a folder
 * or was given with a slash at its end.
 */
export async function resolveFileTarget(
  target: string,
  fileName: string,
  endsWithSlash: boolean,
): Promise<string> {
  return endsWithSlash || (await isLocalFolder(target)) ? join(target, fileName) : target
}

/** A running `tar` of this machine, and the streams to it and from it, where they were asked for. */
export interface LocalTar {
  readonly stdin: Writable | null
  readonly stdout: Readable | null
}

/**
 * Runs the `tar` of this machine.
 * @param pipe connects its streams, and resolves when they have ended; without it tar works on files alone
 */
export async function runTar(
  args: readonly string[],
  streams: { readonly input?: boolean; readonly output?: boolean } = {},
  pipe: (tar: LocalTar) => Promise<unknown> = async () => {},
): Promise<void> {
  const { input = false, output = false } = streams
  const child = spawn('tar', args, {
    stdio: [input ? 'pipe' : 'ignore', output ? 'pipe' : 'ignore', 'pipe'],
  })
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    if (errors.length < MAX_COPY_ERROR_TEXT) errors += chunk.toString()
  })
  const [[code]] = await Promise.all([once(child, 'close'), pipe(child)])
  if (code !== 0) throw new Error(errors.trim() || `tar ended with exit code ${code}`)
}
