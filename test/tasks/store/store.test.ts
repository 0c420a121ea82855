/** The store on SQLite: what every store does, and what is particular to a file. */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import Database from 'libsql'
import { describe, expect, it, onTestFinished } from 'vitest'
import { sleep } from '../../../src/core/time.ts'
import type { NewTask, Task } from '../../../src/tasks/model/task.ts'
import { openStore } from '../../../src/tasks/store/open.ts'
import { rejectionOf } from '../../help.ts'
import { batchesSuite } from './batches.suite.ts'
import { kindsSuite } from './kinds.suite.ts'
import { leasesSuite } from './leases.suite.ts'
import { freshFile, outcome, storeSuite } from './store.suite.ts'
import { tagsSuite } from './tags.suite.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'manyhost-store-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

storeSuite('SQLite', freshFile)
kindsSuite('SQLite', freshFile)
batchesSuite('SQLite', freshFile)
leasesSuite('SQLite', freshFile)
tagsSuite('SQLite', freshFile)

describe('a store in a file', () => {
  it('waits for another program that holds the lock, with the event loop free', async () => {
    const path = join(folder(), 'tasks.db')
    const store = await openStore(path, { busyTimeout: 60_000 })
    onTestFinished(() => store.close())
    const other = new Database(path)
    other.exec('BEGIN IMMEDIATE')
    const adding = store.add([{ args: 'x' }])
    // Were it to stand still, none of these would come before the lock is free; and nobody else frees it.
    for (let turn = 0; turn < 5; turn++) await sleep(5)
    other.exec('COMMIT')
    other.close()
    expect(await adding).toHaveLength(1)
  })

  it('is opened while another program is making it (one of two failed at once)', async () => {
    const path = join(folder(), 'tasks.db')
    const other = new Database(path)
    // Nobody reads a file that is changing to another journal, not even its settings.
    other.exec('BEGIN EXCLUSIVE; CREATE TABLE other (x); DROP TABLE other')
    const opening = openStore(path, { busyTimeout: 60_000 })
    for (let turn = 0; turn < 5; turn++) await sleep(5)
    other.exec('COMMIT')
    other.close()
    const store = await opening
    expect(await store.count()).toBe(0)
    await store.close()
  })

  it('says so where another program holds the lock for longer than it may wait', async () => {
    const path = join(folder(), 'tasks.db')
    const store = await openStore(path, { busyTimeout: 50 })
    const other = new Database(path)
    other.exec('BEGIN IMMEDIATE')
    const error = await rejectionOf(store.add([{ args: 'x' }]))
    expect(error).toMatchObject({ code: 'MANYHOST_STORE_BUSY', retryable: true })
    expect(error.message).toMatch(/locked by another program/)
    other.exec('COMMIT')
    other.close()
    expect(await store.add([{ args: 'x' }])).toHaveLength(1)
    await store.close()
    expect((await rejectionOf(store.counts())).message).toMatch(/closed/)
  })

  it('says that no space is left, changes nothing, and goes on when there is some', async () => {
    const store = await openStore(join(folder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const [{ page_count: pages } = {}] = await store.statement('PRAGMA page_count')
    const most = (count: number) => store.statement(`PRAGMA max_page_count = ${count}`)
    await most(Number(pages) + 20)
    const error = await rejectionOf(store.add([{ args: 'x'.repeat(1 << 20) }]))
    expect(error).toMatchObject({ code: 'MANYHOST_STORE_FULL', status: 507 })
    expect((await store.counts()).total).toBe(0)
    await most(1_000_000)
    expect(await store.add([{ args: 'x'.repeat(1 << 20) }])).toHaveLength(1)
  })

  it('is none when it is something else, and says so', async () => {
    const path = folder()
    writeFileSync(join(path, 'text.db'), 'no database, but text of some length '.repeat(100))
    expect((await rejectionOf(openStore(join(path, 'text.db')))).code).toBe('MANYHOST_STORE_FAILED')
    const other = new Database(join(path, 'other.db'))
    other.exec('CREATE TABLE task (id TEXT)')
    other.close()
    const error = await rejectionOf(openStore(join(path, 'other.db')))
    expect(error).toMatchObject({ code: 'MANYHOST_STORE_VERSION' })
    expect(error.message).toMatch(/no store of manyhost/)
    expect((await rejectionOf(openStore(join(path, 'none.db'), { create: false }))).code).toBe(
      'MANYHOST_STORE_FAILED',
    )
    expect((await rejectionOf(openStore('mysql://u:secret@h/d'))).message).not.toMatch(/secret/)
    expect((await rejectionOf(openStore(':memory:', { busy: 1 } as object))).code).toBe(
      'MANYHOST_INVALID_OPTION',
    )
  })

  it('of another program is left as it is, to the byte, by whoever opens it', async () => {
    const path = join(folder(), 'other.db')
    const other = new Database(path)
    other.exec('CREATE TABLE photos (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE meta (k, v)')
    other.close()
    const before = readFileSync(path)
    for (const create of [true, false]) {
      const error = await rejectionOf(openStore(path, { create }))
      expect(error.code).toBe('MANYHOST_STORE_VERSION')
      expect(error.message).toMatch(/other\.db is no store of manyhost: .*'photos', 'meta'/)
    }
    expect(readFileSync(path).equals(before)).toBe(true)
    expect(readdirSync(dirname(path))).toEqual(['other.db'])
  })

  it('is not made by who only wants to read, not even in an empty file', async () => {
    const path = join(folder(), 'empty.db')
    writeFileSync(path, '')
    expect((await rejectionOf(openStore(path, { create: false }))).message).toMatch(
      /there is no store at/,
    )
    expect(readFileSync(path)).toHaveLength(0)
    const none = join(dirname(path), 'none.db')
    expect((await rejectionOf(openStore(none, { create: false }))).message).toMatch(
      /there is no store at/,
    )
    expect(existsSync(none)).toBe(false)
  })

  it('says in words what is wrong with it, and no codes', async () => {
    const at = folder()
    writeFileSync(join(at, 'text.db'), 'no database, but text of some length '.repeat(100))
    mkdirSync(join(at, 'folder.db'))
    const wrong = { 'text.db': /no SQLite database/, 'folder.db': /cannot be opened/ }
    for (const [name, words] of Object.entries(wrong)) {
      const { message } = await rejectionOf(openStore(join(at, name)))
      expect(message).toMatch(words)
      expect(message).not.toMatch(/SQLITE|_ERROR_|ConnectionFailed|: \d/)
    }
  })

  it('has all that was acknowledged after its program is gone, and a copy has it, too', async () => {
    const path = join(folder(), 'tasks.db')
    const store = await openStore(path)
    const server = await store.registerServer()
    await store.add(Array.from({ length: 4 }, (_, i) => ({ args: `${i}` })))
    const tasks = await store.claim({ server, limit: 2 })
    await store.complete([outcome(tasks[0] as Task)])
    await store.rotate()
    const copy = join(path, '..', 'copy.db')
    await store.backup(copy)
    await store.close()
    for (const one of [path, copy]) {
      const again = await openStore(one)
      expect(await again.count()).toBe(4)
      expect((await again.get(tasks[0]?.id ?? '')).exitStatus).toBe(0)
      expect(await again.counts()).toMatchObject({ new: 2, scheduled: 1 })
      await again.close()
    }
  })

  it('ends a rotation that was cut short, and has each task once meanwhile', async () => {
    const store = await openStore(join(folder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const server = await store.registerServer()
    await store.add([{ args: 'a' }, { args: 'b' }])
    const tasks = await store.claim({ server, limit: 2 })
    await store.complete(tasks.map((task) => outcome(task)))
    // Copied, but not removed yet: the deletion fails.
    await store.statement(
      "CREATE TRIGGER cut BEFORE DELETE ON task BEGIN SELECT RAISE(FAIL, 'cut short'); END",
    )
    expect((await rejectionOf(store.rotate())).message).toMatch(/cut short/)
    await store.statement('DROP TRIGGER cut')
    const seen: string[] = []
    for await (const task of store.list()) seen.push(task.args)
    expect(seen).toEqual(['a', 'b'])
    expect(await store.rotate()).toEqual({ moved: 2, partition: 1 })
    expect(await store.count()).toBe(2)
  })
})

describe('a store in memory', () => {
  it('does the same', async () => {
    const store = await openStore(':memory:')
    const server = await store.registerServer()
    let told = 0
    store.onAdded(() => told++)
    await store.add([{ args: 'x' }])
    expect(told).toBe(1)
    const [task] = await store.claim({ server })
    expect((await store.complete([outcome(task as Task)])).accepted).toHaveLength(1)
    await store.close()
  })
})

describe('the thread that a store lives in', () => {
  it('leaves the program free while the database works', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    let isDone = false
    const counted = store
      .statement(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000)
        SELECT count(*) AS n FROM n`)
      .finally(() => {
        isDone = true
      })
    let turns = 0
    while (!isDone) {
      await setImmediate()
      turns++
    }
    expect(await counted).toEqual([{ n: 1_000_000 }])
    // In the program's own thread it would be one.
    expect(turns).toBeGreaterThan(10)
  })

  it('says of what cannot be handed over that it cannot be kept', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const wrong = { args: 'x', tag: { a: () => 1 } } as unknown as NewTask
    const error = await rejectionOf(store.add([wrong]))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toMatch(/add: a value that no store can keep/)
    expect(await store.add([{ args: 'x' }])).toHaveLength(1)
  })

  it('keeps no program from its end, but for an answer that is awaited', () => {
    const tasks = new URL('../../../dist/src/tasks.js', import.meta.url)
    const code = `import { openStore } from ${JSON.stringify(tasks)}
      const store = await openStore(':memory:')
      store.onAdded(() => undefined)
      await store.add([{ args: 'x' }])
      store.counts().then(({ total }) => console.log(total))`
    const args = ['--input-type=module', '-e', code]
    const ended = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 })
    expect(ended).toMatchObject({ status: 0, stdout: '1\n', stderr: '' })
  })

  it('is gone when the store is closed; lists that are open, and what is asked then, say so', async () => {
    const store = await openStore(':memory:')
    await store.add(Array.from({ length: 600 }, (_, n) => ({ args: `${n}` })))
    const list = store.list()
    expect((await list.next()).value?.args).toBe('0')
    const last = store.counts()
    await Promise.all([store.close(), store.close()])
    expect((await last).total).toBe(600)
    const error = await rejectionOf(
      (async () => {
        for await (const _ of list);
      })(),
    )
    expect(error).toMatchObject({
      code: 'MANYHOST_STORE_FAILED',
      message: 'the store is closed',
    })
    expect((await rejectionOf(store.counts())).message).toBe('the store is closed')
  })
})
