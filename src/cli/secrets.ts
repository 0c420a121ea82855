/** Secrets of the command line. They come from a file or from the environment: every user can read the arguments. */
import { readFileSync } from 'node:fs'
import { describeError } from '../core/errors.ts'
import { CliError } from './exit.ts'

/** The least length of a key or token that others must not guess. */
export const MIN_SECRET_BYTES = 16

/** Reads a file that an option names. @throws CliError `usage` if it cannot be read */
export function readOptionFile(option: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    const text = `${option}: cannot read ${file}: ${describeError(error)}`
    throw new CliError('usage', text, { cause: error })
  }
}

/**
 * Reads a secret from the file of an option, or else from an environment variable. Undefined where there is neither.
 * Line ends after the secret are removed.
 * @throws CliError `usage` if the file cannot be read
 */
export function readSecret(
  option: string,
  file: string | undefined,
  variable: string,
): string | undefined {
  if (file === undefined) return process.env[variable] || undefined
  return readOptionFile(option, file)
    .toString('utf8')
    .replace(/[\r\n]+$/, '')
}

/** @throws CliError for a secret that is short enough to be guessed. `name` is what the secret is: `the key` */
export function checkSecretLength(
  secret: string,
  name: string,
  exitKind: 'usage' | 'config',
): string {
  if (Buffer.byteLength(secret) >= MIN_SECRET_BYTES) return secret
  throw new CliError(exitKind, `${name} must have ${MIN_SECRET_BYTES} characters or more`)
}

/** Whether a database URL holds a password: `postgres://me:secret@db/jobs`. */
export function hasUrlPassword(text: string): boolean {
  return /^[a-z+]+:\/\/[^@/]*:[^@/]+@/i.test(text)
}
