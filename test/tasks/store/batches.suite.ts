/** Batches in a store: each is a queue of its own; what is left is taken over by folder. On SQLite and on PostgreSQL. */
import { describe, expect, it } from 'vitest'
import type { NewTask, Task } from '../../../src/tasks/model/task.ts'
import type { Store } from '../../../src/tasks/store/store.ts'
import { rejectionOf } from '../../help.ts'
import { listed, openPlace, outcome, type Place } from './store.suite.ts'

const of = (batch: string, names: string, more: Partial<NewTask> = {}): NewTask[] =>
  [...names].map((args) => ({ args, batch, ...more }))

const argsOf = (tasks: readonly Task[]): string => tasks.map(({ args }) => args).join('')

export function batchesSuite(name: string, fresh: () => Promise<Place>): void {
  const place = () => openPlace(fresh)
  const claimed = async (store: Store, server: string, batches: string[], attempts = 1) =>
    argsOf(await store.claim({ server, batches, attempts, limit: 100 }))

  describe(`batches on ${name}`, () => {
    it('are queues of their own: groups and failures of one hold no other back', async () => {
      const { store, server } = await place()
      await store.add([...of('a', 'xy', { group: 1 }), ...of('b', 'z', { group: 2 })])
      await store.add(of('b', 'f'))
      expect(await claimed(store, server, ['a'])).toBe('xy')
      const [first] = await store.claim({ server, batches: ['b'] })
      expect(first?.args).toBe('f')
      await store.complete([outcome(first as Task, 1)])
      expect(await store.groupTurn(1, ['b'])).toMatchObject({ is: 'blocked', group: 0 })
      expect(await claimed(store, server, ['b'])).toBe('')
      await store.add(of('', 's', { group: 3 }))
      expect(await claimed(store, server, [''])).toBe('s')
      expect(await store.counts(['a'])).toMatchObject({ scheduled: 2, total: 2 })
      expect(await store.counts(['a', ''])).toMatchObject({ scheduled: 3, total: 3 })
      expect((await store.progress(1, ['b'])).remaining).toBe(1)
    })

    it('are one queue where several are asked for, in the order of submission', async () => {
      const { store, server } = await place()
      for (const [batch, names] of [
        ['a', '1'],
        ['', '2'],
        ['b', 'x'],
        ['a', '3'],
      ] as const) {
        await store.add(of(batch, names))
      }
      expect(await claimed(store, server, ['a', ''])).toBe('123')
      expect(argsOf(await store.claim({ server, limit: 9 }))).toBe('x')
    })

    it('keep how a task is run through retries, claims that are lost, and reverts', async () => {
      const { store, server } = await place()
      const given = {
        args: '7',
        batch: 'a',
        cwd: '/a',
        shell: '/bin/bash',
        env: { X: '1' },
        template: 'echo {}',
        command: 'echo 7',
      }
      const [id = ''] = await store.add([given])
      const [one] = (await store.claim({ server, batches: ['a'] })) as [Task]
      expect(one).toMatchObject(given)
      await store.unregisterServer(server)
      const next = await store.registerServer('there')
      const [two] = (await store.claim({ server: next, batches: ['a'] })) as [Task]
      expect(two).toMatchObject({ ...given, fence: 2 })
      await store.complete([outcome(two, 1, { command: 'echo 7' })], 2)
      const [three] = (await store.claim({ server: next, batches: ['a'], attempts: 2 })) as [Task]
      expect(three).toMatchObject({ ...given, attempt: 2, previousId: id })
      await store.complete([outcome(three, 1, { command: 'echo 7' })], 2)
      expect(await store.revert({ where: ['state == failed'] })).toBe(1)
      expect(await store.get(three.id)).toMatchObject({ ...given, exitStatus: null })
      // Its template is to be filled in anew.
      await store.update({ where: [`id == ${three.id}`] }, { args: '8' })
      expect(await store.get(three.id)).toMatchObject({ ...given, args: '8', command: null })
    })

    it('that nobody works off are taken over by folder, with failures that hold groups back', async () => {
      const { store } = await place()
      const alive = await store.registerServer('here', undefined, { batch: 'lives', isOpen: false })
      await store.add([
        ...of('dead', '12', { cwd: '/a' }),
        ...of('dead', 'o', { cwd: '/b' }),
        ...of('', '3', { cwd: '/a' }),
        ...of('', 'n'),
        ...of('lives', 'l', { cwd: '/a' }),
        ...of('old', 'f', { cwd: '/a' }),
      ])
      const server = await store.registerServer('here')
      const [old] = (await store.claim({ server, batches: ['old'] })) as [Task]
      await store.complete([outcome(old, 1)])
      const taken = { batch: 'new', cwd: '/a', attempts: 1 }
      expect(await store.adopt(taken)).toBe(4)
      // What failed for good in a batch that has nothing left is over.
      expect(await store.counts(['old'])).toMatchObject({ failed: 1 })
      expect(await claimed(store, server, ['new'])).toBe('123n')
      expect(await store.adopt(taken)).toBe(0)
      expect(await store.adopt({ batch: 'again', cwd: '/a', attempts: 2 })).toBe(0)
      expect(await claimed(store, server, ['again'], 2)).toBe('f')
      await store.unregisterServer(alive)
      expect(await store.adopt({ ...taken, batch: 'last' })).toBe(1)
    })

    it('take failures over that hold later groups back', async () => {
      const { store, server } = await place()
      await store.add([
        ...of('dead', 'f', { cwd: '/a' }),
        ...of('dead', 'g', { cwd: '/a', group: 1 }),
      ])
      const [first] = (await store.claim({ server, batches: ['dead'] })) as [Task]
      await store.complete([outcome(first, 1)])
      expect(await store.adopt({ batch: 'new', cwd: '/a', attempts: 1 })).toBe(1)
      expect((await store.groupTurn(1, ['new'])).is).toBe('blocked')
    })

    it('that others have left are told of, by folder, and which of them somebody works off', async () => {
      const { store } = await place()
      await store.registerServer('here', undefined, { batch: 'lives', isOpen: false })
      await store.add([
        ...of('d1', '12', { cwd: '/a' }),
        ...of('d2', '3', { cwd: '/a' }),
        ...of('d3', '4', { cwd: '/b' }),
        ...of('', '5', { cwd: '/c' }),
        ...of('lives', '6', { cwd: '/a' }),
        ...of('mine', '7', { cwd: '/a' }),
      ])
      expect(await store.otherBatches('mine')).toEqual([
        { cwd: '/a', isSubmitted: false, isAlive: false, tasks: 3 },
        { cwd: undefined, isSubmitted: true, isAlive: false, tasks: 1 },
        { cwd: '/b', isSubmitted: false, isAlive: false, tasks: 1 },
        { cwd: '/a', isSubmitted: false, isAlive: true, tasks: 1 },
      ])
    })

    it('are not mixed by several that claim at once, and each task is claimed once', async () => {
      const { store, again } = await place()
      const other = await again()
      await store.add([...of('a', 'x'.repeat(100)), ...of('b', 'y'.repeat(100))])
      const claims = [store, other].flatMap((one, index) =>
        ['a', 'b'].map(async (batch) => {
          const server = await one.registerServer(`${index}`)
          const all: Task[] = []
          for (let part: Task[]; ; all.push(...part)) {
            part = await one.claim({ server, batches: [batch], limit: 7 })
            if (part.length === 0) return { batch, all }
          }
        }),
      )
      const ids = new Set<string>()
      for (const { batch, all } of await Promise.all(claims)) {
        for (const task of all) {
          expect(task.batch).toBe(batch)
          ids.add(task.id)
        }
      }
      expect(ids.size).toBe(200)
    })
  })

  describe(`cancelled tasks on ${name}`, () => {
    const noting = (server: string, batch = 'a', since = 0) => ({
      server,
      host: 'here',
      batches: [{ batch, since }],
    })

    it('are told to one server, once; what a server had claimed is its own news', async () => {
      const { store, server } = await place()
      const other = await store.registerServer('there')
      await store.add(of('a', 'cxyz'))
      await store.claim({ server, batches: ['a'] })
      expect(await store.cancel({})).toBe(4)
      const told = await Promise.all([
        store.takeCancelled(noting(server)),
        store.takeCancelled(noting(other)),
      ])
      expect(argsOf(told.flat()).split('').toSorted().join('')).toBe('xyz')
      expect(await store.takeCancelled(noting(server))).toEqual([])
      // Reverted, and cancelled again: that is news.
      expect(await store.revert({ where: ['args == x'] })).toBe(1)
      expect(await store.cancel({ where: ['args == x'] })).toBe(1)
      expect(argsOf(await store.takeCancelled(noting(server)))).toBe('x')
    })

    it('are no news where they were cancelled before', async () => {
      const { store, server } = await place()
      await store.add(of('', 'x'))
      await store.cancel({})
      const [{ completionTime = 0 } = {}] = await listed(store)
      expect(await store.takeCancelled(noting(server, '', (completionTime as number) + 1))).toEqual(
        [],
      )
    })

    it('may be such that failed and wait for their next attempt, and none that failed for good', async () => {
      const { store, server } = await place()
      await store.add(of('a', 'wxy'))
      const [w, x, y] = (await store.claim({ server, batches: ['a'], limit: 3 })) as Task[]
      await store.complete([outcome(w as Task, 7)], 2)
      await store.complete([outcome(x as Task, 7)], 1)
      await store.complete([outcome(y as Task, 7)])
      expect(await store.cancel({ only: ['failed'] })).toBe(1)
      expect(await store.get(w?.id as string)).toMatchObject({ exitStatus: -1, attempts: 2 })
      expect(await claimed(store, server, ['a'], 2)).toBe('xy')
      expect(argsOf(await store.takeCancelled(noting(server)))).toBe('w')
    })

    it('says what no number of attempts is', async () => {
      const { store, server } = await place()
      await store.add(of('a', 'x'))
      const [task] = (await store.claim({ server })) as [Task]
      expect((await rejectionOf(store.complete([outcome(task)], 0.5))).code).toBe(
        'MANYHOST_INVALID_OPTION',
      )
    })
  })
}
