/** Identities from a JSON or YAML file, read again when it changes. JSON is YAML: one parser reads both. */
import { readFileSync, statSync } from 'node:fs'
import { parse } from 'yaml'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { fileFingerprint } from '../../core/fingerprint.ts'
import { every, type Timer } from '../../core/time.ts'
import type { Identity, IdentitySource } from '../rights.ts'
import { parseIdentityTable } from './memory.ts'

/** How often the file is looked at, in ms: a stat is cheap, and works where watching does not. */
const CHECK_INTERVAL_MS = 500
/** Bytes. */
const MAX_FILE_BYTES = 64 * 1_048_576

/** A file that is wrong at the start is an error; one that is wrong later is reported, and the old one holds. */
export function fromFile(path: string, { interval = CHECK_INTERVAL_MS } = {}): IdentitySource {
  let identities = new Map<string, Identity>()
  let stamp = ''
  let timer: Timer | undefined
  const look = (): string => {
    const stat = statSync(path)
    if (stat.size > MAX_FILE_BYTES)
      throw new Error(`it has ${stat.size} bytes, ${MAX_FILE_BYTES} at most`)
    return fileFingerprint(stat)
  }
  const load = (): void => {
    try {
      stamp = look()
      identities = parseIdentityTable(
        path,
        parse(readFileSync(path, 'utf8'), { prettyErrors: false, logLevel: 'error' }) ?? {},
      )
    } catch (cause) {
      if (cause instanceof ManyhostError) throw cause
      // Excerpts, as the parser's messages have them, could be secret.
      const [first = ''] = describeError(cause).split(/ at line|\n/)
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: identities: ${path}: ${first}`, {
        cause,
      })
    }
  }
  const reload = (onError: (error: Error) => void): void => {
    try {
      if (look() !== stamp) load()
    } catch (error) {
      // Said once for each state of the file; one that is being replaced is gone for a moment.
      if (error instanceof ManyhostError) onError(error)
    }
  }
  return {
    find: (ident) => identities.get(ident),
    start(onError) {
      load()
      timer = every(interval, () => reload(onError))
    },
    close: () => timer?.clear(),
  }
}
