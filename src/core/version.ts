/** The version of this package. */
import { existsSync, readFileSync } from 'node:fs'

/** Reads it from package.json, which is above `src` or above `dist`. */
export function version(): string {
  const candidates = ['../../package.json', '../../../package.json'].map(
    (path) => new URL(path, import.meta.url),
  )
  const file = candidates.find((candidate) => existsSync(candidate))
  return file ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : 'unknown'
}
