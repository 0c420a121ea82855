/** What goes wrong around a batch, and does not end it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { expect, it, onTestFinished } from 'vitest'
import { openStore, runCluster, serveForever } from '../../src/tasks.ts'
import { failure, until } from '../help.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'manyhost-faults-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

it('a store that is locked by another program: outcomes wait, and none is lost', async () => {
  const path = join(folder(), 'tasks.db')
  const store = await openStore(path, { busyTimeout: 50 })
  onTestFinished(() => store.close())
  const problems: string[] = []
  const run = runCluster(
    Array.from({ length: 200 }, () => 'true'),
    { store, places: 2, onProblem: (problem) => problems.push(problem) },
  )
  await until(() => run.counts.succeeded > 0)
  const other = new Database(path)
  other.exec('BEGIN IMMEDIATE')
  await until(() => problems.some((one) => /locked by another program/.test(one)))
  other.exec('COMMIT')
  other.close()
  expect(await run).toMatchObject({ succeeded: 200, refused: 0 })
  expect(await store.counts()).toMatchObject({ succeeded: 200, total: 200 })
})

it('a disk that is full: it says so, and goes on when there is room', async () => {
  const store = await openStore(join(folder(), 'tasks.db'))
  onTestFinished(() => store.close())
  const most = (count: number) => store.statement(`PRAGMA max_page_count = ${count}`)
  const [{ page_count: pages } = {}] = await store.statement('PRAGMA page_count')
  await most(Number(pages) + 4)
  const problems: string[] = []
  const run = runCluster(
    Array.from({ length: 50 }, (_, n) => `true ${n} ${'x'.repeat(2_000)}`),
    { store, places: 2, onProblem: (problem) => problems.push(problem) },
  )
  await until(() => problems.some((one) => /space|full/.test(one)))
  await most(1_000_000)
  expect(await run).toMatchObject({ submitted: 50, succeeded: 50 })
})

it('tasks that print much, leave children, and ignore signals: the others end as they would', async () => {
  let bytes = 0
  const run = runCluster(
    [
      'head -c 100000000 /dev/zero',
      'sleep 300 & sleep 300 & exit 0',
      "trap '' INT TERM; sleep 300 # MANYHOST: timeout:5s",
      'true',
      'true',
    ],
    {
      inMemory: true,
      places: 3,
      signalWait: 100,
      onOutput: (_task, _stream, chunk) => {
        bytes += chunk.length
      },
    },
  )
  const statuses = []
  for await (const { exitStatus } of run) statuses.push(exitStatus)
  expect(statuses.toSorted()).toEqual([0, 0, 0, 0, 137])
  expect(bytes).toBe(100_000_000)
})

it('a server that was taken for dead goes on as a new one, and its old claims are refused', async () => {
  const store = await openStore(join(folder(), 'tasks.db'))
  onTestFinished(() => store.close())
  const problems: string[] = []
  const run = serveForever({
    store,
    // It beats every 3 s; a runner may be silent for longer than any pause of this machine.
    evictAfter: 12_000,
    poll: 100,
    onProblem: (problem) => problems.push(problem),
  })
  await run.ready
  const [id = ''] = await store.add([{ args: 'test $TASK_FENCE = 2 || sleep 60' }])
  await until(async () => (await store.get(id)).clientId !== null)
  const [server] = await store.servers()
  await store.leave(server?.id as string)
  await until(async () => (await store.get(id)).exitStatus !== null)
  expect(await store.get(id)).toMatchObject({ exitStatus: 0, fence: 2, attempt: 1 })
  expect(problems.join()).toMatch(/took this one for dead/)
  run.stop()
  await run
})

it('a runner that cannot be started: the reason is told, and stop ends it', async () => {
  const run = runCluster(['true'], { inMemory: true, runner: ['/no/such/program'] })
  await run.ready
  run.stop()
  expect(await run).toMatchObject({ succeeded: 0 })
})

it('a store of a newer version, or none: it rejects before anything runs', async () => {
  const path = join(folder(), 'tasks.db')
  const other = new Database(path)
  other.exec('CREATE TABLE task (id TEXT)')
  other.close()
  const run = runCluster(['true'], { store: path })
  expect(await failure(run.ready)).toMatchObject({ code: 'MANYHOST_STORE_VERSION' })
  expect(await failure(run.then())).toMatchObject({ code: 'MANYHOST_STORE_VERSION' })
})
