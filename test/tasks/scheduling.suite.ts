/** What a server does with its store, whatever its database: run on SQLite by `scheduling.test.ts`, on PostgreSQL by its engine test. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { describe, expect, it, onTestFinished } from 'vitest'
import { SessionCore } from '../../src/session/session.ts'
import type { Task } from '../../src/tasks/model/task.ts'
import { createServerId } from '../../src/tasks/server/task-server-lease.ts'
import type { Store } from '../../src/tasks/store/store.ts'
import {
  type ClusterRunOptions,
  runCluster,
  serveForever,
  submitFrom,
  type TaskResult,
} from '../../src/tasks.ts'
import { createGate, createHoldingProvider, NEVER, waitUntil } from '../help.ts'
import { collect } from './collect.ts'
import { marked, runnersOf } from './runner-help.ts'
import { listed, openPlace, outcome, type Place } from './store/store.suite.ts'

/** Works off what is in a store. */
function rest(store: Store, options: ClusterRunOptions = {}) {
  return collect(undefined, { store, restart: true, evictAfter: NEVER, ...options })
}

/** Whether it was evicted, as the store has it of servers and clients that are gone as well. */
async function evicted(store: Store, table: 'server' | 'client', id: string): Promise<boolean> {
  const [row] = await store.statement(`SELECT evicted FROM ${table} WHERE id = '${id}'`)
  return Number(row?.evicted) === 1
}

export function schedulingSuite(name: string, fresh: () => Promise<Place>): void {
  describe(`a server on ${name}`, () => {
    it('has nothing to do where nothing is left, and ends', async () => {
      const { store } = await openPlace(fresh)
      const { results, counts } = await rest(store)
      expect(results).toEqual([])
      expect(counts).toMatchObject({ submitted: 0, succeeded: 0, failed: 0 })
    })

    it('begins with what a killed one of this machine held, whatever the lease', async () => {
      const { store } = await openPlace(fresh)
      const process = spawn('sleep', ['600'])
      onTestFinished(() => void process.kill('SIGKILL'))
      const killed = await store.registerServer(hostname(), createServerId(process.pid))
      await store.add([{ args: 'true' }])
      expect(await store.claim({ server: killed })).toHaveLength(1)
      const ended = once(process, 'exit')
      process.kill('SIGKILL')
      await ended
      expect((await rest(store, { poll: NEVER })).counts.succeeded).toBe(1)
    })

    it('takes over from one that is silent for longer than its lease, and notes that', async () => {
      const { store, server } = await openPlace(fresh)
      const client = { id: 'c', host: 'there', serverId: server, serverHost: 'here' }
      await store.connectClient(client)
      await store.add([{ args: 'true' }])
      const [held] = (await store.claim({ server })) as [Task]
      const problems: string[] = []
      const run = runCluster(undefined, {
        store,
        restart: true,
        poll: NEVER,
        // It looks every 3 s; a runner may be silent for longer than any pause of this machine.
        evictAfter: 12_000,
        onProblem: (problem) => problems.push(problem),
      })
      const results: TaskResult[] = []
      const reading = (async () => {
        for await (const one of run) results.push(one)
      })()
      await run.ready
      await store.statement(`UPDATE server SET heartbeat_at = 0 WHERE id = '${server}'`)
      await reading
      expect(results).toMatchObject([{ id: held.id, exitStatus: 0, fence: held.fence + 1 }])
      expect(problems).toContain('1 tasks of servers that are gone are in the queue again')
      expect(await evicted(store, 'server', server)).toBe(true)
      expect(await evicted(store, 'client', 'c')).toBe(true)
      // The other one has left.
      expect(await evicted(store, 'server', results[0]?.serverId as string)).toBe(false)
      expect(await evicted(store, 'client', results[0]?.clientId as string)).toBe(false)
    })

    it('looks now and then for what no event tells of: the outcome of another one', async () => {
      const { store, server } = await openPlace(fresh)
      await store.add([{ args: 'its' }, { args: 'true' }, { args: 'true then', group: 1 }])
      const [its] = (await store.claim({ server })) as [Task]
      const run = runCluster(undefined, { store, restart: true, poll: 50, evictAfter: NEVER })
      await waitUntil(() => run.counts.succeeded === 1)
      await store.complete([outcome(its)])
      expect(await run).toMatchObject({ succeeded: 2 })
    })

    it.each([
      ['before new ones where it is eager', true, ['true 1', 'true 2', 'true 3']],
      ['behind new ones where it is not', false, ['true 2', 'true 3', 'true 1']],
    ])('tries failed tasks %s', async (_, eager, order) => {
      const { store, server } = await openPlace(fresh)
      await store.add([{ args: 'true 1' }])
      const [failed] = (await store.claim({ server })) as [Task]
      await store.complete([outcome(failed, 1)])
      await store.add([{ args: 'true 2' }, { args: 'true 3' }])
      const { results } = await rest(store, { numTasks: 1, maxRetries: 1, eager })
      const begun = results.toSorted((a, b) => (a.startTime ?? 0) - (b.startTime ?? 0))
      expect(begun.map(({ args }) => args)).toEqual(order)
    })

    it('never tries again what was cancelled, nor holds others back for it', async () => {
      const { store, server } = await openPlace(fresh)
      await store.add([{ args: 'runs' }, { args: 'waits' }, { args: 'true', group: 1 }])
      await store.claim({ server })
      expect(await store.cancel({ group: 0 })).toBe(2)
      expect(await store.groupTurn(3)).toEqual({ is: 'open', group: 1 })
      const { results } = await rest(store, { maxRetries: 2 })
      expect(results.map(({ args }) => args)).toEqual(['true'])
      expect((await store.counts()).total).toBe(3)
    })

    it('claims, and keeps outcomes of, no more than a bundle at a time', async () => {
      const { store } = await openPlace(fresh)
      const session = new SessionCore({ provider: createHoldingProvider().provider })
      onTestFinished(() => session.close())
      session.startup({ url: 'http://calc', concurrency: 20 })
      const sizes: Record<'claim' | 'complete', number[]> = { claim: [], complete: [] }
      const watched = new Proxy(store, {
        get(target, name) {
          const value = Reflect.get(target, name, target)
          if (typeof value !== 'function') return value
          return (...given: unknown[]) => {
            if (name === 'claim') sizes.claim.push((given[0] as { limit: number }).limit)
            if (name === 'complete') sizes.complete.push((given[0] as unknown[]).length)
            return value.apply(target, given)
          }
        },
      })
      const lines = Array.from({ length: 100 }, (_, n) => `GET http://calc/now/${n}`)
      await submitFrom(lines, { store, kind: 'request' })
      const { counts } = await rest(watched, { session, bundleSize: 3 })
      expect(counts.succeeded).toBe(100)
      expect(Math.max(...sizes.claim)).toBe(3)
      expect(Math.max(...sizes.complete)).toBeLessThanOrEqual(3)
    })

    it('says who runs a task while it runs, and leaves nobody behind', async () => {
      const { store, server } = await openPlace(fresh)
      const { folder, open } = createGate()
      const { mark, runner } = marked()
      const line = `until test -e ${folder}/open; do sleep 0.05; done`
      const run = runCluster([line], { store, runner, evictAfter: NEVER })
      const running = async () => (await listed(store)).find(({ clientId }) => clientId !== null)
      const task = (await waitUntil(async () => (await running()) ?? false)) as Task
      expect(task).toMatchObject({ clientHost: hostname(), exitStatus: null })
      expect(await store.clients()).toMatchObject([
        { id: task.clientId, host: hostname(), serverId: task.serverId, serverHost: hostname() },
      ])
      expect(runnersOf(mark)).toHaveLength(1)
      open()
      expect(await run).toMatchObject({ succeeded: 1 })
      expect(await store.clients()).toEqual([])
      expect((await store.servers()).map(({ id }) => id)).toEqual([server])
      expect(runnersOf(mark)).toEqual([])
    })

    it('without confirm the store does not hear of runners', async () => {
      const { store } = await openPlace(fresh)
      const known: number[] = []
      const run = serveForever({ store, confirm: false, evictAfter: NEVER })
      await run.ready
      await store.add([{ args: 'true' }])
      for await (const _ of run) {
        known.push((await store.clients()).length)
        run.drain()
      }
      expect(known).toEqual([0])
    })

    it('begins a group when the retries of the one before are done', async () => {
      const { store } = await openPlace(fresh)
      const lines = ['echo then # MANYHOST: group:1', 'echo $TASK_ATTEMPT; test $TASK_ATTEMPT = 2']
      const { text, counts } = await collect(lines, { store, maxRetries: 1 })
      expect(text.replaceAll('stdout ', '')).toBe('1\n2\nthen\n')
      expect(counts).toMatchObject({ succeeded: 2, retried: 1 })
    })

    it.each(['revert', 'delete'] as const)(
      'that goes on waits for a group that failed for good until somebody clears it: %s',
      async (how) => {
        const { store } = await openPlace(fresh)
        const { folder, open } = createGate()
        const problems: string[] = []
        const run = serveForever({
          store,
          poll: 50,
          evictAfter: NEVER,
          onProblem: (problem) => problems.push(problem),
        })
        await run.ready
        await store.add([{ args: `test -e ${folder}/open` }, { args: 'true', group: 1 }])
        const held = (text: string) =>
          /^1 tasks of group 0 failed for good.*update --revert or --delete them/.test(text)
        await waitUntil(() => problems.some(held))
        expect(await store.counts()).toMatchObject({ failed: 1, new: 1 })
        // What is over cannot be cancelled, and clears nothing by that.
        expect(await store.cancel({ only: ['failed'] })).toBe(0)
        open()
        expect(await store[how]({ only: ['failed'] })).toBe(1)
        const wanted = how === 'revert' ? 2 : 1
        await waitUntil(() => run.counts.succeeded === wanted)
        run.drain()
        await run
        expect(problems.filter(held)).toHaveLength(1)
      },
    )

    it('gives tasks of its source what its options say, where they say nothing', async () => {
      const { store } = await openPlace(fresh)
      await collect(['true 1 # MANYHOST: cores:1 group:4 site:b', 'true 2'], {
        store,
        taskCores: 2,
        taskMemory: 1_000_000,
        group: 3,
        tags: { site: 'a', run: 7 },
      })
      expect(await listed(store)).toMatchObject([
        { cores: 1, memory: 1_000_000, group: 4, tag: { site: 'b', run: 7 } },
        { cores: 2, memory: 1_000_000, group: 3, tag: { site: 'a', run: 7 } },
      ])
    })

    it('keeps what is handed in with all that is said of it, bundle by bundle', async () => {
      const { store } = await openPlace(fresh)
      const lines = Array.from({ length: 250 }, (_, n) => `/data/${n}.png`)
      const { count, submitId, ids } = await submitFrom([...lines, 'x # MANYHOST: timeout:5'], {
        store,
        submitId: 'run-7',
        bundleSize: 40,
        template: 'convert {} {-}.jpg',
        taskCores: 2,
        taskMemory: 1_000_000,
        taskTimeout: 30_000,
        group: 3,
        tags: { site: 'a' },
      })
      expect([count, submitId]).toEqual([251, 'run-7'])
      const kept = await listed(store)
      expect(ids).toEqual(kept.slice(0, 100).map(({ id }) => id))
      const rest = { cores: 2, memory: 1_000_000, group: 3, tag: { site: 'a' }, submitId }
      expect(kept[7]).toMatchObject({
        ...rest,
        args: 'convert /data/7.png /data/7.jpg',
        timeout: 30_000,
      })
      expect(kept[250]).toMatchObject({ ...rest, args: 'convert x x.jpg', timeout: 5_000 })
    })

    it('takes tasks over HTTP as they are given, and tells of them', async () => {
      const { store } = await openPlace(fresh)
      const run = serveForever({ store, listen: {}, evictAfter: NEVER })
      await run.ready
      const { url = '', token = '' } = run
      const given = {
        args: `echo "it's" # all of it`,
        group: -3,
        cores: 0.5,
        memory: 1_000_000,
        timeout: 16_100,
        tag: { site: 'a', run: 7, none: null },
      }
      const { count, ids, submitId } = await submitFrom([given], { server: url, token })
      expect(count).toBe(1)
      const [id = ''] = ids
      expect(await store.get(id)).toMatchObject({ ...given, id, submitId })
      const headers = { authorization: `Bearer ${token}` }
      const answer = await fetch(`${url}/tasks/${id}?wait=60000`, { headers })
      expect(await answer.json()).toMatchObject({ id, exit_status: 0, is_over: true })
      const progress = await fetch(`${url}/progress`, { headers })
      expect(await progress.json()).toMatchObject({ succeeded: 1, remaining: 0 })
      run.drain()
      await run
    })
  })
}
