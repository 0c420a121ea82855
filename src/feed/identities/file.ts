/** Identities from a JSON or YAML file, read again when it changes. JSON is YAML: one parser reads both. */
import { readFileSync, statSync } from 'node:fs'
import { parse } from 'yaml'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { fileFingerprint } from '../../core/fingerprint.ts'
import { every, type Timer } from '../../core/time.ts'
import type { Identity, IdentitySource } from '../rights.ts'
import { parseIdentityTable } from './memory.ts'

/** How often the file is checked, in ms: a stat is cheap, and works where watching does not. */
const CHECK_INTERVAL_MS = 500
const MAX_FILE_BYTES = 64 * 1_048_576

/**
 * @param interval milliseconds between two checks of the file. @default 500
 * @throws ManyhostError MANYHOST_INVALID_OPTION at the start, if the file is wrong. A file that is wrong later is reported
 * to the feed's event `error`, and the previous identities stay.
 */
export function fromFile(path: string, { interval = CHECK_INTERVAL_MS } = {}): IdentitySource {
  let identities = new Map<string, Identity>()
  let fingerprint = ''
  let timer: Timer | undefined
  const readFingerprint = (): string => {
    const stat = statSync(path)
    if (stat.size > MAX_FILE_BYTES)
      throw new Error(`it has ${stat.size} bytes; at most ${MAX_FILE_BYTES} are allowed`)
    return fileFingerprint(stat)
  }
  const load = (): void => {
    try {
      fingerprint = readFingerprint()
      identities = parseIdentityTable(
        path,
        parse(readFileSync(path, 'utf8'), { prettyErrors: false, logLevel: 'error' }) ?? {},
      )
    } catch (cause) {
      if (cause instanceof ManyhostError) throw cause
      // Only the first line: the parser's messages contain excerpts, which could be secrets.
      const [first = ''] = describeError(cause).split(/ at line|\n/)
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: identities: ${path}: ${first}`, {
        cause,
      })
    }
  }
  const reload = (onError: (error: Error) => void): void => {
    try {
      if (readFingerprint() !== fingerprint) load()
    } catch (error) {
      // Reported once for each state of the file. A missing file is not reported: it may be about to be replaced.
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
