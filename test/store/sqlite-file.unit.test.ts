/** Files of SQLite: who may read them, whose tables they have, and how many statements are kept prepared. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { expect, onTestFinished, test } from 'vitest'
import { SQL_DIALECTS } from '../../src/store/dialect.ts'
import { PreparedCache } from '../../src/store/prepared-cache.ts'
import { openSqliteFile } from '../../src/store/sqlite-file.ts'

function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'manyhost-sqlite-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

test('a private file, and the folder it is in, are made for this user alone', () => {
  const path = join(temporaryFolder(), 'new', 'jobs.db')
  openSqliteFile(path, { isPrivate: true, ownTable: 'jobs' }).close()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700)
})

test('a database with tables, but not the own one, is refused and left as it is', () => {
  const path = join(temporaryFolder(), 'other.db')
  const other = new Database(path)
  other.exec('create table a (x); create table b (x); create table c (x); create table d (x)')
  other.close()
  const before = readFileSync(path)
  expect(() => openSqliteFile(path, { isPrivate: true, ownTable: 'jobs' })).toThrow(
    "it has the tables of another program ('a', 'b', 'c', ...), and is left as it is",
  )
  expect(readFileSync(path).equals(before)).toBe(true)
  openSqliteFile(path, { isPrivate: true, ownTable: 'b' }).close()
})

test('a folder in the place of the file is refused', () => {
  expect(() => openSqliteFile(temporaryFolder(), { isPrivate: true })).toThrow()
})

test('a statement is prepared once, and again only after two hundred others', () => {
  const database = openSqliteFile(':memory:', { isPrivate: true })
  onTestFinished(() => {
    database.close()
  })
  const cache = new PreparedCache(database)
  const first = cache.get('select 0 as n')
  for (let n = 1; n < 200; n++) cache.get(`select ${n} as n`)
  expect(cache.get('select 0 as n')).toBe(first)
  cache.get('select 200 as n')
  expect(cache.get('select 0 as n')).not.toBe(first)
})

test('parameters are numbered for PostgreSQL, and are left as they are for SQLite', () => {
  const sql = 'select * from task where a = ? and b = ?'
  expect(SQL_DIALECTS.sqlite.numberParameters(sql)).toBe(sql)
  expect(SQL_DIALECTS.postgres.numberParameters(sql)).toBe(
    'select * from task where a = $1 and b = $2',
  )
})
