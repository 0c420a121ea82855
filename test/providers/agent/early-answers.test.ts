/** An instance behind an agent answers uploads before it has read them: each response arrives, each request runs once. */
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { Session } from '../../../src/index.ts'
import { waitUntil } from '../../help.ts'
import { cleanups, here, opened } from './auto-closed.ts'

const script = resolve('test/fakes/early.mjs')
const ROUNDS = 3

test.each(['tcp', 'unix'] as const)('%s', async (listen) => {
  const provider = opened()
  here(await provider.address())
  const session = new Session({ provider })
  cleanups.push(() => session.close({ force: true }))
  session.startup({
    url: 'http://calc',
    command: [process.execPath, script],
    listen,
    concurrency: 2,
  })
  const client = session.client()
  const paths = [
    ...['fin', 'late', 'reset', 'stays'].map((end) => `/${end}/length`),
    '/fin/kept',
    '/fin/chunked',
    '/fin/none',
    '/late/none',
    '/reset/chunked',
  ]
  for (const path of paths) {
    for (const size of [1_000, 1 << 16, 1 << 22]) {
      for (let round = 0; round < ROUNDS; round++) {
        const res = await client.post(`http://calc${path}`, { body: Buffer.alloc(size) as never })
        expect([res.status, await res.text()], `${path}, ${size} bytes`).toEqual([413, 'no'])
      }
    }
    const counts = await (await client.get('http://calc/count')).json()
    expect(counts).toEqual({ [path]: ROUNDS * 3 })
  }
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})
