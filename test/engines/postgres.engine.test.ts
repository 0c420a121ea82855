/** The store of tasks on a real PostgreSQL 15, which is started for this test and ended with it. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { PostgresEngine } from '../../src/store/postgres-engine.ts'
import type { Task } from '../../src/tasks/model/task.ts'
import { openStore } from '../../src/tasks/store/open.ts'
import type { Store } from '../../src/tasks/store/store.ts'
import { runCluster, type TaskResult } from '../../src/tasks.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { schedulingSuite } from '../tasks/scheduling.suite.ts'
import { batchesSuite } from '../tasks/store/batches.suite.ts'
import { kindsSuite } from '../tasks/store/kinds.suite.ts'
import { leasesSuite } from '../tasks/store/leases.suite.ts'
import { outcome, type Place, storeSuite } from '../tasks/store/store.suite.ts'
import { tagsSuite } from '../tasks/store/tags.suite.ts'
import { withEngine } from './engine.ts'
import { createPostgres, POSTGRES, type Postgres } from './postgres.ts'

withEngine(POSTGRES, 'postgresql', () => {
  let postgres: Postgres | undefined
  let url: string
  let schemas = 0

  beforeAll(async () => {
    postgres = await createPostgres()
    await postgres.start()
    url = postgres.url
  })

  afterAll(async () => {
    await postgres?.remove()
  })

  const fresh = async (): Promise<Place> => {
    const schema = `store_${++schemas}`
    return {
      open: (options) => openStore(url, { schema, ...options }),
      partition: async () => `${schema}_part1`,
    }
  }

  storeSuite('PostgreSQL', fresh)
  kindsSuite('PostgreSQL', fresh)
  leasesSuite('PostgreSQL', fresh)
  tagsSuite('PostgreSQL', fresh)
  schedulingSuite('PostgreSQL', fresh)
  batchesSuite('PostgreSQL', fresh)

  it('is not made by who only wants to read, nor beside tables of another program', async () => {
    const none = { schema: 'nobody', create: false }
    expect((await rejectionOf(openStore(url, none))).message).toMatch(/there is no store at/)
    const store = await openStore(url, { schema: 'maker' })
    const schemas = await store.statement("SELECT 1 FROM pg_namespace WHERE nspname = 'nobody'")
    expect(schemas).toEqual([])
    await store.statement('CREATE SCHEMA taken')
    await store.statement('CREATE TABLE taken.photos (id BIGINT)')
    for (const create of [true, false]) {
      const error = await rejectionOf(openStore(url, { schema: 'taken', create }))
      expect(error.code).toBe('MANYHOST_STORE_VERSION')
      expect(error.message).toMatch(/the schema taken .* no store of manyhost: .*'photos'/)
    }
    await store.close()
  })

  it('says in words what is wrong, and no states', async () => {
    const { message } = await rejectionOf(openStore(url.replace(/postgres$/, 'nowhere')))
    expect(message).toMatch(/there is no such database/)
    expect(message).not.toMatch(/3D000/)
  })

  it('is opened by many at once, and made by one of them', async () => {
    const stores = await Promise.all(
      Array.from({ length: 5 }, () => openStore(url, { schema: 'made_once', connections: 2 })),
    )
    await stores[0]?.add([{ args: 'x' }])
    expect(await stores[4]?.count()).toBe(1)
    await Promise.all(stores.map((store) => store.close()))
  })

  it('is copied by pg_dump, and says so', async () => {
    const store = await openStore(url, { schema: 'copied' })
    const error = await rejectionOf(store.backup('/tmp/never.sql'))
    expect(error).toMatchObject({ code: 'MANYHOST_UNSUPPORTED' })
    expect(error.message).toMatch(/pg_dump/)
    await store.close()
  })

  it('never says its password', async () => {
    const store = await openStore(url, { schema: 'quiet' })
    expect(store.name).not.toContain('s3cret')
    await store.close()
    const error = await rejectionOf(openStore(url.replace(/:\d+\//, ':1/')))
    expect(error.code).toBe('MANYHOST_STORE_FAILED')
    expect(error.message).not.toContain('s3cret')
    expect((await rejectionOf(openStore('postgres://a:s3cret@['))).message).not.toContain('s3cret')
  })

  it('goes on after its connections were cut, and hears again', async () => {
    const store = await openStore(url, { schema: 'cut' })
    let told = 0
    store.onAdded(() => told++)
    await waitUntil(() => told > 0)
    const cut = await openStore(url, { schema: 'cutter' })
    await cut.statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
    await cut.close()
    const other = await openStore(url, { schema: 'cut' })
    told = 0
    await waitUntil(async () => {
      await other.add([{ args: 'x' }]).catch(() => {})
      return told > 0
    })
    const server = await store.registerServer()
    const [task] = await store.claim({ server })
    expect((await store.complete([outcome(task as Task)])).accepted).toHaveLength(1)
    await store.close()
    await other.close()
  })

  it('is shared by two servers at their work: each task has one outcome, and ran once', async () => {
    const stores = await Promise.all([1, 2].map(() => openStore(url, { schema: 'shared' })))
    await stores[0]?.add(Array.from({ length: 400 }, (_, n) => ({ args: `true ${n}` })))
    const by = await Promise.all(
      stores.map(async (store) => {
        const results: TaskResult[] = []
        for await (const one of runCluster(undefined, { store, numTasks: 2, bundleSize: 10 })) {
          results.push(one)
        }
        return results
      }),
    )
    const all = by.flat()
    expect(new Set(all.map(({ id }) => id)).size).toBe(400)
    expect(all.every(({ exitStatus, fence }) => exitStatus === 0 && fence === 1)).toBe(true)
    const [store] = stores as [Store]
    expect(await store.counts()).toMatchObject({ succeeded: 400, total: 400 })
    expect(await store.numRefused()).toBe(0)
    for (const one of stores) await one.close()
  })

  it('waits for a lock no longer than it is told', async () => {
    const options = { schema: 'locked', busyTimeout: 100 }
    const store = await openStore(url, options)
    const engine = await PostgresEngine.open(url, { ...options, connections: 2 })
    await engine.transaction(async (statements) => {
      await statements.script('LOCK TABLE task IN ACCESS EXCLUSIVE MODE')
      const other = await openStore(url, options)
      expect((await rejectionOf(other.add([{ args: 'x' }]))).code).toBe('MANYHOST_STORE_BUSY')
      await other.close()
    })
    await engine.close()
    await store.close()
  })
})
