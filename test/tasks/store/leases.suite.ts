/** Servers that share a store, with clocks that differ or are set: on SQLite and on PostgreSQL. */
import { describe, expect, it } from 'vitest'
import { lines, openPlace, type Place } from './store.suite.ts'

const HOUR = 3_600_000
/** Looks of one lease. */
const LOOKS = 40
const LEASE = 200

export function leasesSuite(name: string, fresh: () => Promise<Place>): void {
  describe(`leases on ${name}`, () => {
    it.each([
      ['an hour ahead', HOUR],
      ['an hour behind', -HOUR],
    ])(
      'hold while a server beats, its clock being %s; then its tasks go back',
      async (_, apart) => {
        const { store, server, again } = await openPlace(fresh)
        await store.add(lines(3))
        await store.claim({ server, limit: 3 })
        const other = await again()
        const set = (to: string) =>
          store.statement(`UPDATE server SET heartbeat_at = ${to} WHERE id = '${server}'`)
        await set(`heartbeat_at + ${apart}`)
        const begun = performance.now()
        for (let look = 0; look < LOOKS || performance.now() - begun < 5 * LEASE; look++) {
          await set('heartbeat_at + 1')
          expect(await other.recover(LEASE)).toEqual({ servers: [], tasks: 0 })
        }
        expect(await store.heartbeat(server)).toBe(true)
        let found = await other.recover(LEASE)
        while (found.servers.length === 0) found = await other.recover(LEASE)
        expect(found).toEqual({ servers: [server], tasks: 3 })
        expect(await store.heartbeat(server)).toBe(false)
      },
    )

    it('are noted by a number that grows with each beat, whatever the clock says', async () => {
      const { store, server } = await openPlace(fresh)
      const beatOf = async () => (await store.servers())[0]?.heartbeatAt as number
      await store.statement(`UPDATE server SET heartbeat_at = ${Date.now() + HOUR}`)
      for (let before = await beatOf(), count = 0; count < 5; count++) {
        expect(await store.heartbeat(server)).toBe(true)
        const after = await beatOf()
        expect(after).toBeGreaterThan(before)
        before = after
      }
    })

    it('do not end a server that is known to live, however long it is silent', async () => {
      const { store, server, again } = await openPlace(fresh)
      const other = await again()
      const begun = performance.now()
      for (let look = 0; look < LOOKS || performance.now() - begun < 3 * LEASE; look++) {
        expect((await other.recover(LEASE, [server])).servers).toEqual([])
      }
      expect(await store.heartbeat(server)).toBe(true)
    })
  })
}
