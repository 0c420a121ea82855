/** The version of this package. */
import { existsSync, readFileSync } from 'node:fs'

/** As package.json has it: above `src`, or above `dist`. */
export function version(): string {
  const places = ['../../package.json', '../../../package.json'].map(
    (path) => new URL(path, import.meta.url),
  )
  const file = places.find((place) => existsSync(place))
  return file ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : 'unknown'
}
