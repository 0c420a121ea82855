/** Runners that are lost while they have tasks: frozen ones, and those that a task kills. */
import { expect, it, onTestFinished } from 'vitest'
import { processes } from '../../providers/process/index.ts'
import { SessionCore } from '../../src/session/session.ts'
import { createServerId, TaskServerLease } from '../../src/tasks/server/task-server-lease.ts'
import { openStore, runCluster, type TaskResult } from '../../src/tasks.ts'
import { waitUntil } from '../help.ts'
import { marked, runnersOf } from './runner-help.ts'

it('a runner that is frozen loses its task to another, whose outcome is the one that counts', async () => {
  const store = await openStore(':memory:')
  onTestFinished(() => store.close())
  const { mark, runner } = marked()
  const session = new SessionCore({ provider: processes() })
  onTestFinished(() => session.close({ force: true }))
  const problems: string[] = []
  const run = runCluster(['test $TASK_FENCE -gt 1 || sleep 600'], {
    store,
    session,
    runner,
    numTasks: 1,
    // The shortest that there is: its health is asked for every half second.
    evictAfter: 1_000,
    onProblem: (problem) => problems.push(problem),
  })
  await run.ready
  let id = ''
  let first: string | null = null
  await waitUntil(async () => {
    for await (const task of store.list()) [id, first] = [task.id, task.clientId]
    return first !== null
  })
  const [frozen = 0] = runnersOf(mark)
  process.kill(frozen, 'SIGSTOP')
  expect(await run, problems.join()).toMatchObject({ succeeded: 1, failed: 0 })
  const task = await store.get(id)
  expect(task).toMatchObject({ exitStatus: 0, attempt: 1 })
  expect(task.fence).toBeGreaterThan(1)
  const evicted = await store.statement('SELECT id FROM client WHERE evicted = 1')
  expect(evicted.map((client) => client.id)).toContain(first)
  // What the frozen one had to say came to nothing, or was refused.
  await store.complete([{ ...LATE, id, fence: 1 }])
  expect(await store.get(id)).toEqual(task)
  await waitUntil(() => !runnersOf(mark).includes(frozen))
}, 90_000)

it('a server that was taken for dead ends what it had, and nothing that it claims by its new name', async () => {
  const store = await openStore(':memory:')
  onTestFinished(() => store.close())
  const events: string[] = []
  const lease: TaskServerLease = new TaskServerLease(
    { store, leaseMs: 60_000, problems: { report: () => {} } },
    {
      leaseLost: () => events.push(`lost, now ${lease.id}`),
      tasksRecovered: (count) => events.push(`${count} recovered`),
    },
  )
  await lease.acquire()
  const first = lease.id
  // Of this machine, and of a process that is no more: what it held is there for whoever joins.
  const dead = await store.registerServer(lease.host, `${createServerId()}0`)
  await store.add([{ args: 'true' }])
  await store.claim({ server: dead })
  await store.unregisterServer(first)
  await lease.renew()
  expect(lease.id).not.toBe(first)
  expect(events).toEqual([`lost, now ${lease.id}`, '1 recovered'])
  await lease.release()
})

const LATE = {
  exitStatus: 1,
  command: 'late',
  clientId: null,
  clientHost: null,
  startTime: null,
  completionTime: 1,
}

it('a task that kills its runner again and again ends with an outcome, and the others with theirs', async () => {
  const { runner } = marked()
  // Up from the shell to the runner; the pattern does not fit the shell's own command line.
  const killer =
    'p=$$; until grep -q "runner/[m]ain.js" /proc/$p/cmdline; do [ $p -gt 1 ] || exit 9; ' +
    "p=$(sed -n 's/^PPid:.//p' /proc/$p/status); done; kill -9 $p; sleep 60"
  const results: TaskResult[] = []
  const run = runCluster([killer, ...Array.from({ length: 20 }, () => 'true')], {
    inMemory: true,
    runner,
    numTasks: 2,
  })
  for await (const one of run) results.push(one)
  const poison = results.filter(({ args }) => args === killer)
  expect(poison).toMatchObject([{ exitStatus: 137, willRetry: false }])
  expect(poison[0]?.message).toMatch(/its runner was lost 5 times/)
  expect(await run).toMatchObject({ succeeded: 20, failed: 1 })
}, 180_000)
