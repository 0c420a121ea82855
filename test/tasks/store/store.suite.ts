/** What every store does, whatever its database: run on SQLite by `store.test.ts`, on PostgreSQL by its engine test. */
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { NewTask, Task, TaskOutcome } from '../../../src/tasks/model/task.ts'
import { openStore, type StoreOptions } from '../../../src/tasks/store/open.ts'
import { partitionPath } from '../../../src/tasks/store/partitions.ts'
import type { Store } from '../../../src/tasks/store/store.ts'
import { createFolder } from '../../cli/help.ts'
import { rejectionOf, waitUntil } from '../../help.ts'
import { seededRandom } from '../../random.ts'

export interface Place {
  /** Opens the same store again, as another program does. */
  open(options?: StoreOptions): Promise<Store>
  /** What the tables of its first partition are called by in statements of this store. */
  partition(store: Store): Promise<string>
}

/** A store in a file that is not there yet. */
export async function freshFile(): Promise<Place> {
  const path = join(createFolder(), 'deep', 'tasks.db')
  return {
    open: (options) => openStore(path, options),
    async partition(store) {
      await store.statement('ATTACH ? AS part', partitionPath(path, 1))
      return 'part'
    },
  }
}

export function outcome(task: Task, exitStatus = 0, more: Partial<TaskOutcome> = {}): TaskOutcome {
  return {
    id: task.id,
    fence: task.fence,
    exitStatus,
    command: task.args,
    clientId: 'client-1',
    clientHost: 'there',
    startTime: task.submitTime + 5,
    completionTime: task.submitTime + 15,
    ...more,
  }
}

export async function listed(store: Store, ...args: Parameters<Store['list']>): Promise<Task[]> {
  const all: Task[] = []
  for await (const task of store.list(...args)) all.push(task)
  return all
}

export const request = { method: 'GET', url: 'http://calc/', headers: {}, body: null }

export const lines = (count: number, name = 'task'): { args: string }[] =>
  Array.from({ length: count }, (_, index) => ({ args: `${name} ${index}` }))

/** A store of this test alone, and a server of it that does nothing by itself. */
export async function openPlace(
  fresh: () => Promise<Place>,
): Promise<Place & { store: Store; server: string; again: Place['open'] }> {
  const where = await fresh()
  const again: Place['open'] = async (options) => {
    const opened = await where.open(options)
    onTestFinished(() => opened.close())
    return opened
  }
  const store = await again()
  return { ...where, store, server: await store.registerServer('here'), again }
}

export function storeSuite(name: string, fresh: () => Promise<Place>): void {
  const place = () => openPlace(fresh)

  describe(`a store on ${name}`, () => {
    it('keeps all fields of a task, from submission to outcome', async () => {
      const { store, server } = await place()
      const request = { method: 'POST', url: 'http://calc/add', headers: { a: 'b' }, body: '\0"\n' }
      const given = {
        args: `echo 'it''s' "quoted"\nand a second line \t \u{1f600} # not a comment`,
        request,
        group: 3,
        cores: 1.5,
        memory: 2 ** 40,
        timeout: 30_000,
        tag: { name: 'x', part: 1, deep: 1.25, yes: true, no: false, none: null, '': '' },
      }
      delete (given.tag as Record<string, unknown>)['']
      const [id = ''] = await store.add([given], { submitId: 'run-7', submitHost: 'desk' })
      const before = await store.get(id)
      expect(before).toMatchObject({
        ...given,
        id,
        submitId: 'run-7',
        submitHost: 'desk',
        attempt: 1,
        retried: false,
        fence: 0,
        exitStatus: null,
        scheduleTime: null,
      })
      expect(Object.keys(before)).toHaveLength(39)
      const [claimed] = await store.claim({ server })
      expect(claimed).toEqual(await store.get(id))
      expect(claimed).toMatchObject({ serverId: server, serverHost: 'here', fence: 1 })
      expect(await store.confirm('client-1', 'there', [claimed as Task])).toEqual([id])
      expect((await store.get(id)).clientId).toBe('client-1')
      const ended = outcome(claimed as Task, 7, {
        coresMax: 1.2,
        memoryMax: 5_000_000_000,
        outpath: '/x.out',
        errpath: '/x.err',
        csvpath: '/x.csv',
      })
      expect(await store.complete([ended])).toEqual({ accepted: [id], refused: [] })
      expect(await store.get(id)).toEqual({ ...claimed, ...ended, waited: 5, duration: 10 })
    })

    it('claims groups in order, and within a group in the order of submission', async () => {
      const { store, server } = await place()
      await store.add(lines(3, 'b').map((one) => ({ ...one, group: 2 })))
      await store.add(lines(3, 'a').map((one) => ({ ...one, group: -1 })))
      await store.add(lines(2, 'c').map((one) => ({ ...one, group: -1 })))
      const seen: string[] = []
      for (;;) {
        const tasks = await store.claim({ server, limit: 2 })
        if (tasks.length === 0) break
        seen.push(...tasks.map(({ args }) => args))
        await store.complete(tasks.map((task) => outcome(task)))
      }
      expect(seen).toEqual(['a 0', 'a 1', 'a 2', 'c 0', 'c 1', 'b 0', 'b 1', 'b 2'])
      expect(await store.groupTurn()).toEqual({ is: 'done' })
    })

    it('does not begin a group while the one before it is at work, nor after it failed', async () => {
      const { store, server } = await place()
      await store.add([{ args: 'first' }, { args: 'then', group: 1 }])
      const [first] = await store.claim({ server, limit: 10 })
      expect(await store.claim({ server })).toEqual([])
      await store.complete([outcome(first as Task, 1)])
      expect(await store.claim({ server })).toEqual([])
      expect(await store.groupTurn()).toEqual({ is: 'blocked', group: 0, failedForGood: 1 })
      expect(await store.groupTurn(2)).toEqual({ is: 'open', group: 0 })
      expect((await store.claim({ server, group: 1 })).map(({ args }) => args)).toEqual(['then'])
      expect(await store.remaining()).toBe(1)
    })

    it.each([
      [{ url: 'nonsense' }, /absolute URL/],
      [{ method: 'A B' }, /method must be a token/],
      [{ headers: { 'a b': 'c' } }, /characters that no header can have/],
      [{ headers: { 'transfer-encoding': 'chunked' } }, /about one connection/],
      [{ headers: { 'content-length': 'abc' } }, /Content-Length must be digits/],
      [{ headers: null }, /must have method, url, headers and body/],
      [{ body: 7 }, /body of a request must be a text or null/],
    ])('refuses a request that none can be made of: %j', async (wrong, message) => {
      const { store } = await place()
      const request = { method: 'GET', url: 'http://x/', headers: {}, body: null, ...wrong }
      await expect(store.add([{ args: 'a', request } as NewTask])).rejects.toThrow(message)
      expect((await store.counts()).total).toBe(0)
    })

    it('tries failed tasks again as linked rows that keep all that was asked for (weakness 3)', async () => {
      const { store, server } = await place()
      const given = {
        args: 'fails',
        group: 4,
        cores: 2,
        memory: 1_000,
        timeout: 500,
        tag: { a: 'b' },
        request,
      }
      await store.add([given], { submitId: 's' })
      const attempts: Task[] = []
      for (let i = 0; i < 3; i++) {
        const [task] = (await store.claim({ server, attempts: 3 })) as [Task]
        attempts.push(task)
        expect(task).toMatchObject({
          ...given,
          submitId: 's',
          attempt: i + 1,
          fence: 1,
          exitStatus: null,
        })
        await store.complete([outcome(task, 1)])
      }
      expect(await store.claim({ server, attempts: 3 })).toEqual([])
      const rows = await listed(store)
      expect(rows.map(({ retried }) => retried)).toEqual([true, true, false])
      expect(rows.map(({ previousId }) => previousId)).toEqual([null, rows[0]?.id, rows[1]?.id])
      expect(rows.map(({ nextId }) => nextId)).toEqual([rows[1]?.id, rows[2]?.id, null])
      expect(await store.counts()).toMatchObject({ retried: 2, failed: 1, total: 3 })
      expect(await store.groups(3)).toMatchObject([{ group: 4, remaining: 0, failedForGood: 1 }])
      // The last attempt alone can go back.
      expect(await store.revert({})).toBe(1)
      expect(await store.groups(3)).toMatchObject([{ group: 4, remaining: 1, failedForGood: 0 }])
      expect((await listed(store)).map(({ exitStatus }) => exitStatus)).toEqual([1, 1, null])
    })

    it('has new tasks before failed ones, eagerly failed ones first, the longest ago before', async () => {
      const { store, server } = await place()
      await store.add(lines(3))
      const failing = await store.claim({ server, limit: 3 })
      const at = failing[0]?.submitTime ?? 0
      await store.complete(
        failing.map((task, index) => outcome(task, 1, { completionTime: at + 30 - index })),
      )
      await store.add([{ args: 'new' }, { args: 'new too' }])
      const names = (tasks: Task[]): string[] => tasks.map(({ args }) => args)
      expect(names(await store.claim({ server, limit: 2, attempts: 2, eager: true }))).toEqual([
        'task 2',
        'task 1',
      ])
      expect(names(await store.claim({ server, limit: 9, attempts: 2 }))).toEqual([
        'new',
        'new too',
        'task 0',
      ])
    })

    it('refuses the late outcome of a claim that was taken back, and counts it (weakness 5)', async () => {
      const { store, server } = await place()
      const [id = ''] = await store.add([{ args: 'x' }])
      const [old] = (await store.claim({ server })) as [Task]
      await store.connectClient({ id: 'c1', host: 'h', serverId: server, serverHost: 'here' })
      await store.confirm('c1', 'h', [old])
      expect(await store.disconnectClient('c1', { isEvicted: true })).toBe(1)
      expect(await store.statement('SELECT id FROM client WHERE evicted = 1')).toHaveLength(1)
      // Even while nobody else has it.
      expect((await store.complete([outcome(old, 9)])).refused).toEqual([{ id, reason: 'evicted' }])
      const [again] = (await store.claim({ server })) as [Task]
      expect(again.fence).toBe(2)
      expect((await store.complete([outcome(old, 9)])).accepted).toEqual([])
      expect(await store.confirm('c1', 'h', [old])).toEqual([])
      expect((await store.complete([outcome(again, 0)])).accepted).toEqual([id])
      expect((await store.complete([outcome(old, 9)])).refused).toEqual([{ id, reason: 'evicted' }])
      expect((await store.complete([outcome(again, 0)])).refused).toEqual([
        { id, reason: 'repeated' },
      ])
      const gone = outcome({ ...again, id: 'nobody' })
      expect((await store.complete([gone])).refused).toEqual([{ id: 'nobody', reason: 'unknown' }])
      expect(await store.get(id)).toMatchObject({ exitStatus: 0, fence: 2 })
      expect(await store.numRefused()).toBe(3)
    })

    it('takes the first of two outcomes in one batch, whatever text they have', async () => {
      const { store, server } = await place()
      const [id = ''] = await store.add([{ args: 'x' }])
      const [task] = (await store.claim({ server })) as [Task]
      const done = await store.complete([
        outcome(task, 1, { command: 'a\0b\ud800' }),
        outcome(task, 0),
      ])
      expect(done).toEqual({ accepted: [id], refused: [{ id, reason: 'repeated' }] })
      expect(await store.get(id)).toMatchObject({ exitStatus: 1, command: 'a\ufffdb\ufffd' })
    })

    it('never gives two servers the same task', async () => {
      const { store, again } = await place()
      await store.add(lines(1_500))
      const stores = [store, await again(), await again()]
      const held = await Promise.all(
        stores.map(async (one) => {
          const server = await one.registerServer()
          const ids: string[] = []
          for (;;) {
            const tasks = await one.claim({ server, limit: 17 })
            if (tasks.length === 0) {
              if ((await one.counts()).new === 0) return ids
              continue
            }
            ids.push(...tasks.map(({ id }) => id))
            await one.complete(tasks.map((task) => outcome(task)))
          }
        }),
      )
      const all = held.flat()
      expect(all).toHaveLength(1_500)
      expect(new Set(all).size).toBe(1_500)
      expect(await store.counts()).toMatchObject({ new: 0, scheduled: 0, succeeded: 1_500 })
    })

    it('gives the tasks of a dead server back, and does not take it in again (weaknesses 6, 13)', async () => {
      const { store, server, again } = await place()
      await store.add(lines(5))
      const held = await store.claim({ server, limit: 3 })
      const other = await again()
      const second = await other.registerServer('second')
      expect(await other.recover(60_000)).toEqual({ servers: [], tasks: 0 })
      // Its lease is over as soon as the clock has moved on.
      await waitUntil(async () => {
        await other.heartbeat(second)
        const { servers, tasks } = await other.recover(20)
        return servers.includes(server) && tasks === 3
      })
      expect(await store.heartbeat(server)).toBe(false)
      expect((await rejectionOf(store.claim({ server }))).code).toBe('MANYHOST_SERVER_EVICTED')
      expect((await store.complete([outcome(held[0] as Task)])).accepted).toEqual([])
      const third = await other.registerServer('third')
      expect(await other.claim({ server: third, limit: 10 })).toHaveLength(5)
      expect(await other.unregisterServer(third)).toBe(5)
      expect((await store.counts()).new).toBe(5)
    })

    it('finds a task whose server is unknown, as after a crash between two programs', async () => {
      const { store, server, again } = await place()
      await store.add(lines(2))
      const [one] = await store.claim({ server })
      const other = await again()
      await other.statement('DELETE FROM server')
      expect((await other.recover(60_000)).tasks).toBe(1)
      expect((await store.get(one?.id ?? '')).scheduleTime).toBe(null)
    })

    it('gives claims back that could not be handed on, once', async () => {
      const { store, server } = await place()
      await store.add(lines(2))
      const held = await store.claim({ server, limit: 2 })
      expect(await store.release(held)).toBe(2)
      expect(await store.release(held)).toBe(0)
      expect((await store.claim({ server, limit: 2 })).map(({ fence }) => fence)).toEqual([2, 2])
    })

    it('knows who is connected', async () => {
      const { store, server } = await place()
      const client = { id: 'c', host: 'h', serverId: server, serverHost: 'here' }
      await store.connectClient(client)
      await store.connectClient(client)
      expect(await store.clients(server)).toMatchObject([client])
      expect(await store.clients('another')).toEqual([])
      await store.disconnectClient('c')
      expect(await store.clients()).toEqual([])
      expect(await store.servers()).toMatchObject([{ id: server, host: 'here', endedAt: null }])
      await store.unregisterServer(server)
      expect(await store.servers()).toEqual([])
    })

    it('cancels, reverts, changes and deletes what a filter fits', async () => {
      const { store, server } = await place()
      await store.add(lines(10).map((one, i) => ({ ...one, tag: { half: i < 5 ? 1 : 2 } })))
      const [running] = (await store.claim({ server })) as [Task]
      expect(await store.cancel({ tags: ['half:1'] })).toBe(5)
      expect((await store.complete([outcome(running)])).refused).toMatchObject([
        { reason: 'evicted' },
      ])
      expect(await store.counts()).toMatchObject({ cancelled: 5, new: 5, scheduled: 0 })
      expect(await store.cancel({ tags: ['half:1'] })).toBe(0)
      expect(await store.revert({ where: ['exit_status == -1'] }, { limit: 2 })).toBe(2)
      expect(await store.counts()).toMatchObject({ cancelled: 3, new: 7 })
      expect(await store.update({ where: ['args ~ [89]$'] }, { group: 5, timeout: 60 })).toBe(2)
      expect(await store.count({ group: 5 })).toBe(2)
      expect((await listed(store, { group: 5 })).map(({ timeout }) => timeout)).toEqual([60, 60])
      const retagged = { tag: { half: 3, new: 'yes' } }
      expect(await store.update({ tags: ['half:2'], group: 5 }, retagged)).toBe(2)
      expect(await store.update({ tags: ['new'] }, { removeTags: ['half'] }, { limit: 1 })).toBe(1)
      expect(await store.count({ tags: ['half:3'] })).toBe(1)
      expect((await store.tagValues('half')).sort()).toEqual([1, 2, 3])
      expect(await store.tagKeys()).toEqual(['half', 'new'])
      expect(await store.delete({ group: 5 })).toBe(2)
      expect(await store.tagKeys()).toEqual(['half'])
      expect((await store.counts()).total).toBe(8)
      for (const wrong of [
        { args: 'a\0' },
        { group: 1.5 },
        {},
        { exit_status: 0 },
        { tag: { 'a b': 1 } },
      ]) {
        expect((await rejectionOf(store.update({}, wrong as object))).code).toBe(
          'MANYHOST_INVALID_OPTION',
        )
      }
    })

    it('changes the first and the last of an order, what it is sorted by included', async () => {
      const { store, server } = await place()
      // Longer than a page, and in another order than they were handed in.
      const count = 2_500
      const cores = (i: number): number => 1 + ((i * 7) % count)
      await store.add(lines(count).map((one, i) => ({ ...one, cores: cores(i) })))
      const has = async (filter: Parameters<Store['list']>[0]): Promise<number[]> =>
        (await listed(store, filter, { sort: 'cores' })).map((task) => task.cores ?? 0)
      const upTo = (from: number, to: number): number[] =>
        Array.from({ length: to - from }, (_, i) => from + i)
      expect(await store.update({}, { group: 1 }, { sort: 'cores', limit: 1_200 })).toBe(1_200)
      expect(await has({ group: 1 })).toEqual(upTo(1, 1_201))
      const last = { sort: 'cores', isDescending: true, limit: 2 }
      expect(await store.cancel({ group: 0 }, last)).toBe(2)
      expect(await has({ where: ['exit_status == -1'] })).toEqual([count - 1, count])
      expect(await store.cancel({ group: 0 }, last)).toBe(2)
      expect(await store.revert({ group: 0 }, { ...last, isDescending: false })).toBe(2)
      expect(await has({ where: ['exit_status == -1'] })).toEqual([count - 1, count])
      expect(await store.delete({ group: 1, only: ['remaining'] }, last)).toBe(2)
      expect(await has({ group: 1 })).toEqual(upTo(1, 1_199))
      const tagged = { where: ['args ~ 9$'], group: 1 }
      const [first = 0, second = 0] = await has(tagged)
      expect(await store.update(tagged, { tag: { x: 1 } }, { sort: 'cores', limit: 2 })).toBe(2)
      expect(await has({ tags: ['x'] })).toEqual([first, second])
      expect(await store.update({ group: 1 }, { cores: 5_000 }, { sort: 'cores', limit: 3 })).toBe(
        3,
      )
      expect((await has({ group: 1 })).slice(0, 2)).toEqual([4, 5])
      // By what no task has yet: in the order of submission. And that order backwards.
      expect(await store.cancel({ group: 1 }, { sort: 'completion_time', limit: 1 })).toBe(1)
      const [claimed] = await store.claim({ server, group: 0 })
      expect(claimed?.cores).toBeGreaterThan(1_200)
      expect(await store.cancel({ group: 0 }, { isDescending: true, limit: 1 })).toBe(1)
      const late = await listed(store, { group: 0 }, { isDescending: true, limit: 1 })
      expect(late.map(({ exitStatus }) => exitStatus)).toEqual([-1])
      for (const wrong of [{ sort: 'nothing' }, { limit: -1 }, { limit: 1.5 }]) {
        expect((await rejectionOf(store.cancel({}, wrong))).code).toBe('MANYHOST_INVALID_OPTION')
      }
    })

    it('filters, sorts, and counts the same as it lists', async () => {
      const { store, server } = await place()
      await store.add(lines(30).map((one, i) => ({ ...one, group: i % 3, cores: (i % 4) + 1 })))
      const begun: Task[] = []
      for (const group of [0, 1]) begun.push(...(await store.claim({ server, group, limit: 8 })))
      await store.complete(
        begun
          .slice(0, 12)
          .map((task, i) => outcome(task, i % 3, { completionTime: task.submitTime + 100 - i })),
      )
      const all = await listed(store)
      const filters: [Parameters<Store['list']>[0], (task: Task) => boolean][] = [
        [{}, () => true],
        [{ only: ['failed'] }, ({ exitStatus }) => exitStatus !== null && exitStatus !== 0],
        [{ only: ['succeeded'] }, ({ exitStatus }) => exitStatus === 0],
        [
          { only: ['completed'], group: 1 },
          (task) => task.completionTime !== null && task.group === 1,
        ],
        [{ only: ['remaining'] }, ({ completionTime }) => completionTime === null],
        [{ only: ['failed', 'succeeded'] }, () => false],
        [{ where: ['exit_status == 2'] }, ({ exitStatus }) => exitStatus === 2],
        [
          { where: ['exit_status > 0', 'cores >= 3'] },
          (task) => (task.exitStatus ?? 0) > 0 && (task.cores ?? 0) >= 3,
        ],
        [{ where: ['client_id != null'] }, ({ clientId }) => clientId !== null],
        [{ where: ["args == 'task 7'"] }, ({ args }) => args === 'task 7'],
        [
          { where: ['args ~ ^task 1.$'], group: 2 },
          (task) => /^task 1.$/.test(task.args) && task.group === 2,
        ],
        [
          { where: ['state == scheduled'] },
          (task) => task.scheduleTime !== null && task.completionTime === null,
        ],
        [{ where: ['duration < 93ms'] }, (task) => (task.duration ?? 100) < 93],
        [
          { where: [`submit_time >= ${new Date(all[0]?.submitTime ?? 0).toISOString()}`] },
          () => true,
        ],
      ]
      for (const [filter = {}, fits] of filters) {
        const expected = all.filter(fits).map(({ id }) => id)
        const ids = (tasks: Task[]): string[] => tasks.map(({ id }) => id)
        const what = JSON.stringify(filter)
        expect(ids(await listed(store, filter)), what).toEqual(expected)
        expect(await store.count(filter), what).toBe(expected.length)
        const down = await listed(store, filter, { isDescending: true, limit: 4, offset: 1 })
        expect(ids(down), what).toEqual([...expected].reverse().slice(1, 5))
        const sorted = await listed(store, filter, { sort: 'completion_time' })
        const times = sorted.map(({ completionTime }) => completionTime ?? Number.POSITIVE_INFINITY)
        expect(times, what).toEqual([...times].sort((a, b) => a - b))
        expect(ids(sorted).sort(), what).toEqual([...expected].sort())
      }
      for (const wrong of [
        'x == 1',
        'args',
        'cores == many',
        'args ~ (',
        'cores > null',
        'seq > 1',
      ]) {
        expect((await rejectionOf(listed(store, { where: [wrong] }))).code, wrong).toBe(
          'MANYHOST_INVALID_OPTION',
        )
      }
      expect((await rejectionOf(listed(store, {}, { sort: 'nothing' }))).code).toBe(
        'MANYHOST_INVALID_OPTION',
      )
    })

    it('lists more than a page, and stops reading when its reader does', async () => {
      const { store } = await place()
      await store.add(lines(1_300))
      let last: Task | undefined
      let seen = 0
      for await (const task of store.list()) {
        expect(task.args).toBe(`task ${seen++}`)
        last = task
      }
      expect(last?.args).toBe('task 1299')
      for await (const task of store.list({}, { sort: 'args', isDescending: true })) {
        expect(task.args).toBe('task 999')
        break
      }
    })

    it('refuses a wrong task with all that came with it, and says which', async () => {
      const { store } = await place()
      const wrong: [object, RegExp][] = [
        [{ args: 'a\0b' }, /tasks\[1\]: args has a NUL/],
        [{ args: 'a\ud800' }, /well-formed/],
        [{ args: 5 }, /must be a text/],
        [{ args: 'x', cores: -1 }, /cores/],
        [{ args: 'x', group: 2 ** 40 }, /group/],
        [{ args: 'x', tag: { 'no blanks': 1 } }, /tag/],
        [{ args: 'x', tag: { a: 'no blanks' } }, /tag/],
        [{ args: 'x'.repeat((8 << 20) + 1) }, /characters/],
      ]
      for (const [task, message] of wrong) {
        const error = await rejectionOf(store.add([{ args: 'good' }, task as { args: string }]))
        expect(error.code).toBe('MANYHOST_INVALID_TASK')
        expect(error.message).toMatch(message)
      }
      expect((await store.counts()).total).toBe(0)
      expect(await store.add([])).toEqual([])
      const big = 'x'.repeat(1 << 20)
      const [id = ''] = await store.add([{ args: big }, { args: '' }])
      expect((await store.get(id)).args).toBe(big)
      expect((await rejectionOf(store.get('nobody'))).code).toBe('MANYHOST_UNKNOWN_TASK')
    })

    it('tells of what was handed in, to this program and to others', async () => {
      const { store, again } = await place()
      const other = await again()
      let here = 0
      let there = 0
      store.onAdded(() => here++)
      const off = other.onAdded(() => there++)
      await waitUntil(async () => {
        // The other may not listen yet: what it is told of is what comes while it does.
        await store.add([{ args: 'x' }])
        return here > 0 && there > 0
      })
      off()
    })

    it('knows how the work gets on', async () => {
      const { store, server } = await place()
      expect(await store.progress()).toMatchObject({ remaining: 0, rate: null, timeLeft: 0 })
      await store.add(lines(30))
      const tasks = await store.claim({ server, limit: 10 })
      const now = Date.now()
      await store.complete(
        tasks.map((task) =>
          outcome(task, 0, { startTime: now - 1_100, completionTime: now - 1_000 }),
        ),
      )
      const { rate, averageDuration, timeLeft, remaining } = await store.progress()
      expect(remaining).toBe(20)
      expect(averageDuration).toBe(100)
      expect(rate).toBeGreaterThan(0)
      expect(rate).toBeLessThanOrEqual(10)
      expect(timeLeft).toBeGreaterThanOrEqual(2_000)
      expect(await store.pressure(1)).toBeGreaterThanOrEqual(20)
    })

    it('moves what is over into partitions, and reads all as one, or the store alone', async () => {
      const { store, server, again } = await place()
      await store.add(lines(12).map((one) => ({ ...one, tag: { run: 'a' } })))
      const before = await listed(store)
      const work = async (count: number): Promise<void> => {
        const tasks = await store.claim({ server, limit: count })
        await store.complete(tasks.map((task, i) => outcome(task, i === 0 ? 1 : 0)))
      }
      await work(4)
      expect(await store.rotate()).toEqual({ moved: 3, partition: 1 })
      await work(4)
      expect(await store.rotate()).toEqual({ moved: 3, partition: 2 })
      expect((await store.counts()).total).toBe(6)
      const after = await listed(store)
      expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id))
      expect(after.filter(({ tag }) => tag.part === 1)).toHaveLength(3)
      expect(await store.count()).toBe(12)
      expect(await store.count({ only: ['succeeded'] })).toBe(6)
      expect(await store.count({ tags: ['part:2'] })).toBe(3)
      expect(await store.count({ tags: ['run:a'] })).toBe(12)
      expect(await store.tagKeys()).toEqual(['part', 'run'])
      expect((await store.get(before[1]?.id ?? '')).tag).toEqual({ run: 'a', part: 1 })
      const sorted = await listed(store, {}, { sort: 'args', limit: 3, isDescending: true })
      expect(sorted.map(({ args }) => args)).toEqual(['task 9', 'task 8', 'task 7'])
      const alone = await again({ partitions: false })
      expect(await alone.count()).toBe(6)
      expect(await listed(alone)).toHaveLength(6)
      expect(await alone.tagKeys()).toEqual(['run'])
      expect(await alone.tagValues('part')).toEqual([])
      expect((await rejectionOf(alone.get(before[1]?.id ?? ''))).code).toBe('MANYHOST_UNKNOWN_TASK')
      // What changes the store goes on with its partitions.
      await work(4)
      expect(await alone.rotate()).toEqual({ moved: 3, partition: 3 })
      await alone.vacuum()
      expect(await alone.truncate()).toBe(12)
      expect(await listed(store)).toEqual([])
    })

    it('counts what is there, whatever was done to it (kept counts against counted ones)', async () => {
      const { store, server } = await place()
      const next = seededRandom(7)
      const random = (below: number): number => Math.floor(next() * below)
      const held: Task[] = []
      for (let step = 0; step < 60; step++) {
        const dice = random(8)
        if (dice < 2)
          await store.add(lines(random(20)).map((one) => ({ ...one, group: random(3) })))
        else if (dice < 4)
          held.push(...(await store.claim({ server, group: random(3), attempts: 3, limit: 5 })))
        else if (dice < 6)
          await store.complete(held.splice(0, 4).map((task) => outcome(task, random(2))))
        else if (dice === 6) await store.revert({ group: random(3) }, { limit: random(3) + 1 })
        else await store.update({ group: random(3) }, { group: random(3) }, { limit: 2 })
      }
      const rows = await listed(store)
      const counted: Record<string, number> = {}
      for (const { id } of rows) {
        const [row] = await store.statement(`SELECT state FROM task WHERE id = '${id}'`)
        const state = String(row?.state)
        counted[state] = (counted[state] ?? 0) + 1
      }
      expect(rows.length).toBeGreaterThan(50)
      const { total, ...counts } = await store.counts()
      expect(total).toBe(rows.length)
      expect(Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== 0))).toEqual(counted)
    })

    it('refuses a store of a newer version, and leaves it as it is', async () => {
      const { store, again } = await place()
      await store.statement("UPDATE meta SET value = 99 WHERE name = 'version'")
      const error = await rejectionOf(again())
      expect(error.code).toBe('MANYHOST_STORE_VERSION')
      expect(error.message).toMatch(/version 99.*newer/)
    })
  })
}
