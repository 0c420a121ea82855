/** Explains the errors of SQLite and PostgreSQL in words, since their codes are made for programs. Pure. */
import { describeError } from '../core/errors.ts'

/** SQLite's primary codes in words. Its messages often have nothing but the code. */
const SQLITE: Readonly<Record<number, string>> = {
  3: 'this user may not open it',
  5: 'another program holds its lock',
  6: 'a table of it is locked',
  7: 'there is not enough memory',
  8: 'it cannot be written: this user may not write the file, or its folder',
  9: 'the operation was interrupted',
  10: 'the disk failed to read or write it',
  11: 'the file is damaged',
  13: 'the disk is full',
  14: 'the file cannot be opened: it is a folder, or this user may not open it, or its folder',
  15: 'its lock cannot be taken',
  17: 'its tables were changed by another program',
  18: 'a value is too large',
  19: 'a constraint of its tables does not hold',
  20: 'a value has the wrong type',
  22: 'the file system cannot lock files, or files of this size',
  23: 'it is not allowed',
  26: 'the file is no SQLite database',
}

const SQLITE_NAMES: Readonly<Record<string, number>> = {
  PERM: 3,
  BUSY: 5,
  LOCKED: 6,
  NOMEM: 7,
  READONLY: 8,
  INTERRUPT: 9,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  PROTOCOL: 15,
  SCHEMA: 17,
  TOOBIG: 18,
  CONSTRAINT: 19,
  MISMATCH: 20,
  NOLFS: 22,
  AUTH: 23,
  NOTADB: 26,
}

/** PostgreSQL's states, and classes of states, in words. Its messages have the details. */
const POSTGRES: Readonly<Record<string, string>> = {
  '08': 'the connection broke',
  '28': 'the user or the password is refused',
  '3D': 'there is no such database',
  '42501': 'this user has no right to it',
  '53100': 'its disk is full',
  '53': 'the server has not enough resources',
  '57P01': 'the server shuts down',
  '57P02': 'the server has crashed',
  '57P03': 'the server does not take connections yet',
  '55P03': 'another program holds a lock',
  '57014': 'it took too long',
  '40': 'another transaction was in the way',
}

/** The message of a database error, with words in the place of codes. */
export function databaseWords(thrown: unknown): string {
  const { code: given, message } = thrown as { code?: unknown; message?: unknown }
  const text = typeof message === 'string' ? message : String(thrown)
  const code = typeof given === 'string' ? given : ''
  const plain = text.replace(/^(?:UNKNOWN_)?SQLITE_[A-Z_]+(?:_\d+)?:\s*/, '')
  // libsql has a message of its own for a file that cannot be opened, which ends with the code.
  const opening = /^ConnectionFailed\("[\s\S]*: (\d+)"\)$/.exec(text)
  const number = (/^UNKNOWN_SQLITE_ERROR_(\d+)$/.exec(code) ?? opening)?.[1]
  const name = /^SQLITE_([A-Z]+)/.exec(code)?.[1]
  const primary = number === undefined ? SQLITE_NAMES[name ?? ''] : Number(number) & 0xff
  const words =
    (primary === undefined ? undefined : SQLITE[primary]) ??
    POSTGRES[code] ??
    (/^[0-9A-Z]{5}$/.test(code) ? POSTGRES[code.slice(0, 2)] : undefined)
  if (words === undefined) return plain === '' ? describeError(thrown) : plain
  const isNew = plain !== '' && !opening && !/SQLITE_/.test(plain) && plain !== 'not an error'
  return isNew ? `${words} (${plain})` : words
}
