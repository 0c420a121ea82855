/**
 * Tasks of two kinds in one store, each kind in a line of its own, and how older stores come to have these lines: on SQLite
 * and on PostgreSQL.
 */
import { describe, expect, it } from 'vitest'
import type { Task, TaskKind } from '../../../src/tasks/model/task.ts'
import type { TaskFilter } from '../../../src/tasks/store/filter.ts'
import type { ListOptions } from '../../../src/tasks/store/find-tasks.ts'
import { STORE_VERSION } from '../../../src/tasks/store/schema.ts'
import type { Store } from '../../../src/tasks/store/store.ts'
import { rejectionOf } from '../../help.ts'
import { makeOlder } from './older-store.ts'
import { lines, listed, openPlace, outcome, type Place, request } from './store.suite.ts'

const INDEXES = {
  sqlite: "SELECT sql AS made FROM sqlite_master WHERE type = 'index' AND sql <> '' ORDER BY 1",
  postgres: 'SELECT indexdef AS made FROM pg_indexes WHERE schemaname = current_schema ORDER BY 1',
}

const versionOf = async (store: Store, place = ''): Promise<unknown> =>
  (await store.statement(`SELECT value FROM ${place}meta WHERE name = 'version'`))[0]?.value

export function kindsSuite(name: string, fresh: () => Promise<Place>): void {
  const place = () => openPlace(fresh)

  describe(`kinds of tasks on ${name}`, () => {
    it('claims tasks of one kind past all of the other, each kind in its order, and both in one', async () => {
      const { store, server } = await place()
      // Requests, with a shell task behind each hundred of them.
      const given = Array.from({ length: 303 }, (_, n) =>
        n % 101 === 100 ? { args: `${n}` } : { args: `${n}`, request },
      )
      await store.add([...given, { args: 'later', group: 1 }])
      const numbers = (tasks: readonly Task[]): number[] => tasks.map(({ args }) => Number(args))
      const claim = async (limit: number, kind?: TaskKind) =>
        numbers(await store.claim({ server, limit, ...(kind && { kind }) }))
      expect(await claim(2, 'shell')).toEqual([100, 201])
      expect(await claim(3, 'request')).toEqual([0, 1, 2])
      expect(await claim(97)).toEqual(Array.from({ length: 97 }, (_, n) => n + 3))
      expect(await claim(10, 'shell')).toEqual([302])
      // The group is not done: those of the next wait, whatever their kind.
      expect(await claim(10, 'shell')).toEqual([])
      expect(await claim(1)).toEqual([101])
      expect(await store.count({ group: 0, only: ['remaining'], where: ['state == new'] })).toBe(
        199,
      )
      expect(
        (await rejectionOf(store.claim({ server, kind: 'http' as TaskKind }))).message,
      ).toMatch(/kind must be 'shell' or 'request', got "http"/)
    })

    it('lists those that wait, of both kinds, in one order', async () => {
      const { store, server } = await place()
      const given = Array.from({ length: 1_200 }, (_, n) =>
        n % 3 === 0 ? { args: `${n}` } : { args: `${n}`, request },
      )
      await store.add(given)
      await store.claim({ server, limit: 5, kind: 'request' })
      const left = given.filter(({ args }) => !['1', '2', '4', '5', '7'].includes(args))
      const names = left.map(({ args }) => args)
      for (const filter of [{ group: 0 }, {}] as TaskFilter[]) {
        const waiting = { ...filter, where: ['state == new'] }
        const read = async (options: ListOptions = {}) =>
          (await listed(store, waiting, options)).map(({ args }) => args)
        expect(await read()).toEqual(names)
        expect(await read({ isDescending: true, limit: 10 })).toEqual(names.slice(-10).reverse())
        expect(await store.count(waiting)).toBe(names.length)
      }
      expect(await store.cancel({ group: 0, where: ['state == new'] }, { limit: 4 })).toBe(4)
      const cancelled = await listed(store, { group: 0, where: ['state == cancelled'] })
      expect(cancelled.map(({ args }) => args)).toEqual(names.slice(0, 4))
    })

    it('tries failed tasks of one kind again past those of the other, and both by when they failed', async () => {
      const { store, server } = await place()
      const given = Array.from({ length: 8 }, (_, n) => ({
        args: `${n}`,
        ...(n < 4 && { request }),
      }))
      await store.add(given)
      const all = await store.claim({ server, limit: 8 })
      // The last failed first.
      const ended = (task: Task, n: number) => outcome(task, 1, { completionTime: 2_000 - n })
      await store.complete(all.map(ended))
      const again = async (limit: number, kind?: TaskKind) =>
        (await store.claim({ server, limit, attempts: 2, ...(kind && { kind }) })).map(
          ({ args, attempt }) => `${args} ${attempt}`,
        )
      expect(await again(2, 'request')).toEqual(['3 2', '2 2'])
      expect(await again(1, 'shell')).toEqual(['7 2'])
      expect(await again(4)).toEqual(['6 2', '5 2', '4 2', '1 2'])
    })

    it.each([1, 2] as const)(
      'brings a store of version %i to this one, with all that is in it',
      async (version) => {
        const { store, server, again } = await place()
        const indexes = () => store.statement(INDEXES[store.kind])
        const made = await indexes()
        await store.add([{ args: 'a', request }, { args: 'b' }, { args: 'c' }])
        const [, failed] = (await store.claim({ server, limit: 2 })) as [Task, Task]
        await store.complete([outcome(failed, 1)])
        const before = await store.counts()
        await makeOlder(store, version)
        expect(await indexes()).not.toEqual(made)
        const opened = await again()
        expect(await versionOf(store)).toBe(STORE_VERSION)
        expect(await opened.counts()).toEqual(before)
        expect(await indexes()).toEqual(made)
        const next = await opened.claim({ server, limit: 5, attempts: 2, kind: 'shell' })
        expect(next.map(({ args, attempt }) => [args, attempt])).toEqual([
          ['c', 1],
          ['b', 2],
        ])
        // Who had it open goes on.
        expect((await store.counts()).scheduled).toBe(3)
        expect(await store.release(next)).toBe(2)
      },
    )

    it('leaves an older store as it was where it cannot be brought to this version', async () => {
      const { store, again } = await place()
      await makeOlder(store, 1)
      await store.statement('DROP INDEX task_failed')
      const before = await store.statement(INDEXES[store.kind])
      expect((await rejectionOf(again())).code).toBe('MANYHOST_STORE_FAILED')
      expect(await versionOf(store)).toBe(1)
      expect(await store.statement(INDEXES[store.kind])).toEqual(before)
    })

    it('looks at the version of partitions, too', async () => {
      const { store, server, again, partition } = await place()
      await store.add(lines(2))
      await store.complete((await store.claim({ server, limit: 2 })).map((task) => outcome(task)))
      await store.rotate()
      const part = `${await partition(store)}.`
      await makeOlder(store, 2, part)
      expect(await listed(await again(), { group: 0 })).toHaveLength(2)
      expect(await versionOf(store, part)).toBe(STORE_VERSION)
      await store.statement(`UPDATE ${part}meta SET value = 99 WHERE name = 'version'`)
      expect((await rejectionOf(listed(await again()))).code).toBe('MANYHOST_STORE_VERSION')
      expect(await listed(await again({ partitions: false }))).toEqual([])
    })
  })
}
