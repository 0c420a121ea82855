/** Tags in a store: on SQLite and on PostgreSQL. */
import { describe, expect, it } from 'vitest'
import type { Task } from '../../../src/tasks/model/task.ts'
import { parseTags } from '../../../src/tasks/text/tags.ts'
import { listed, openPlace, outcome, type Place } from './store.suite.ts'

/** Each is a text of its own. */
const TEXTS = [
  ...['1', '1.0', '1.1', '1.10', '1.100', '-0', '0', '00', '007', '7', '1e3', '1000', '1e+21'],
  ...['9007199254740991', '9007199254740992', '9007199254740993', '-9007199254740993'],
  ...['1234567890123456', '12345678901234567', '1'.repeat(120), '0.1', '.1', '1e-7', '0.0000001'],
  ...['true', 'True', 'false', 'null', 'None', '', 'x', 'X', '-', '+', '.', '__proto__'],
]

export function tagsSuite(name: string, fresh: () => Promise<Place>): void {
  describe(`tags on ${name}`, () => {
    it('are found by their own text and by no other, before and after a rotation', async () => {
      const { store, server } = await openPlace(fresh)
      await store.add(TEXTS.map((text) => ({ args: text, tag: parseTags([`v:${text}`, 'all:1']) })))
      const check = async (): Promise<void> => {
        for (const text of TEXTS) {
          const filter = { tags: [`v:${text}`] }
          expect((await listed(store, filter)).map(({ args }) => args)).toEqual([text])
          expect(await store.count(filter)).toBe(1)
          expect(await store.count({ tags: ['all:1', `v:${text}`] })).toBe(1)
        }
        for (const text of ['2', '1.01', '9007199254740994', 'y', '-1']) {
          expect(await store.count({ tags: [`v:${text}`] })).toBe(0)
        }
        expect(await store.count({ tags: ['v'] })).toBe(TEXTS.length)
        const values = (await store.tagValues('v')).map((value) => String(value ?? 'null'))
        expect(values.toSorted()).toEqual(TEXTS.toSorted())
      }
      await check()
      const before = await listed(store)
      const tasks = await store.claim({ server, limit: 100 })
      await store.complete(tasks.map((task) => outcome(task)))
      expect((await store.rotate()).moved).toBe(TEXTS.length)
      await check()
      expect((await listed(store)).map(({ tag }) => tag)).toEqual(
        before.map(({ tag }) => ({ ...tag, part: 1 })),
      )
    })

    it('that were written as texts of JSON, or by a change, are found by the same text', async () => {
      const { store } = await openPlace(fresh)
      await store.add([
        { args: 'number', tag: { v: 1 } },
        { args: 'text', tag: { v: '1' } },
        { args: 'changed', tag: { v: 2 } },
      ])
      await store.update({ tags: ['v:2'] }, { tag: parseTags(['v:1']) })
      const args = async (...tags: string[]): Promise<string[]> =>
        (await listed(store, { tags })).map(({ args }) => args)
      expect(await args('v:1')).toEqual(['number', 'text', 'changed'])
      expect(await args('v:1.0')).toEqual([])
      expect(await store.cancel({ tags: ['v:1'] }, { limit: 2 })).toBe(2)
      expect(await listed(store, { tags: ['v:1'], where: ['state == new'] })).toHaveLength(1)
    })

    it('cancel what has them, and not what has another text for the same number', async () => {
      const { store } = await openPlace(fresh)
      await store.add(['1.10', '1.1'].map((v) => ({ args: v, tag: parseTags([`version:${v}`]) })))
      expect(await store.cancel({ tags: ['version:1.10'] })).toBe(1)
      const states = await listed(store, { where: ['exit_status == -1'] })
      expect(states.map(({ args }: Task) => args)).toEqual(['1.10'])
    })

    it('are a thousand at most, whatever is added to them', async () => {
      const { store } = await openPlace(fresh)
      const tag = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`k${n}`, n]))
      await store.add([{ args: 'x', tag }])
      await expect(store.update({}, { tag: { one: 'more' } })).rejects.toThrow(/at most 1000/)
      expect(await store.update({}, { tag: { k0: 'other' } })).toBe(1)
      expect((await listed(store))[0]?.tag.k0).toBe('other')
    })
  })

  describe(`the group of a task that names none, on ${name}`, () => {
    it('is none of a batch, which has groups of its own', async () => {
      const { store, server } = await openPlace(fresh)
      await store.add([{ args: 'own', group: 7, batch: 'b' }])
      expect(await store.currentGroup()).toBe(0)
      await store.add([
        { args: 'a', group: 3 },
        { args: 'b', group: 5 },
      ])
      const claimed = (await store.claim({ server, limit: 1, batches: ['b'] })) as [Task]
      expect(claimed).toMatchObject([{ group: 7 }])
      expect(await store.currentGroup()).toBe(3)
      await store.complete([outcome(claimed[0])])
      expect(await store.currentGroup()).toBe(3)
    })

    it('is that of what was claimed last, of what ended last, or the first, or 0', async () => {
      const { store, server } = await openPlace(fresh)
      expect(await store.currentGroup()).toBe(0)
      await store.add([{ args: 'b', group: 5 }])
      await store.add([{ args: 'a', group: 3 }])
      expect(await store.currentGroup()).toBe(3)
      const [first] = (await store.claim({ server, limit: 1 })) as [Task]
      expect(await store.currentGroup()).toBe(3)
      await store.complete([outcome(first)])
      expect(await store.currentGroup()).toBe(3)
      await store.claim({ server, limit: 1 })
      expect(await store.currentGroup()).toBe(5)
    })
  })
}
