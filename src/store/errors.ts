/** Turns the errors of a database into errors of manyhost. */

import { describeError, ManyhostError } from '../core/errors.ts'
import { databaseWords } from './database-words.ts'

type DatabaseErrorKind = 'busy' | 'full' | 'other'

/** Codes of SQLite, of PostgreSQL (SQLSTATE) and of the system. */
const KIND_BY_CODE: Readonly<Record<string, DatabaseErrorKind>> = {
  SQLITE_BUSY: 'busy',
  SQLITE_LOCKED: 'busy',
  SQLITE_PROTOCOL: 'busy',
  SQLITE_FULL: 'full',
  '55P03': 'busy',
  '57014': 'busy',
  '40001': 'busy',
  '40P01': 'busy',
  '53100': 'full',
  ENOSPC: 'full',
  EDQUOT: 'full',
}

export function classifyDatabaseError(thrown: unknown): DatabaseErrorKind {
  const code = String((thrown as { code?: unknown } | null)?.code ?? '')
  const known = KIND_BY_CODE[code] ?? KIND_BY_CODE[code.split('_', 2).join('_')]
  if (known) return known
  // On a full disk SQLite may only say that it cannot write; then the system's message has the reason.
  return /disk is full|ENOSPC|No space left/i.test(describeError(thrown)) ? 'full' : 'other'
}

/** @param waited milliseconds that were spent on further attempts */
export function toStoreError(name: string, thrown: unknown, waited = 0): ManyhostError {
  if (thrown instanceof ManyhostError) return thrown
  const details = { cause: thrown }
  const kind = classifyDatabaseError(thrown)
  if (kind === 'busy') {
    return new ManyhostError(
      'MANYHOST_STORE_BUSY',
      `the store ${name} is locked by another program, and stayed locked for ${Math.round(waited)} ms: ${databaseWords(thrown)}`,
      details,
    )
  }
  if (kind === 'full') {
    return new ManyhostError(
      'MANYHOST_STORE_FULL',
      `there is no space left for the store ${name}: ${databaseWords(thrown)}`,
      details,
    )
  }
  return new ManyhostError(
    'MANYHOST_STORE_FAILED',
    `the store ${name}: ${databaseWords(thrown)}`,
    details,
  )
}
