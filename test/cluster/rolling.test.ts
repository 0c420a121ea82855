/** A service that changes while it serves: how many instances of the old and of the new one there are on the way. */
import { expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider } from '../../src/index.ts'
import { openSession } from '../fakes/service.ts'
import { createLatch, NEVER, runEventLoop, waitForReady, waitUntil } from '../help.ts'

/** An in-process provider whose starts after the first so many wait for `open()`. */
function gated(answer: string, free: number) {
  const provider = inProcess(() => new Response(answer))
  const gate = createLatch()
  let starts = 0
  const slow: Provider = {
    name: 'gated',
    capabilities: provider.capabilities,
    start: async (spec, how) => {
      if (++starts > free) await gate.promise
      return provider.start(spec, how)
    },
  }
  return { provider: slow, open: () => gate.open() }
}

test('the last old instance gives way to the first new one: an update waits for no further one', async () => {
  const old = gated('old', 1)
  const session = openSession(old.provider)
  session.startup({ url: 'http://calc', initSize: 1 })
  await waitForReady(session, 'http://calc', 1)
  const next = gated('new', 1)
  // The second new instance never comes up.
  const options = { url: 'http://calc', provider: next.provider, initSize: 3, startTimeout: NEVER }
  let done = false
  const updated = session.update(options).then((cluster) => {
    done = true
    return cluster
  })
  await waitUntil(() => done, 'the update is over')
  const cluster = await updated
  expect(cluster.size).toBe(3)
  expect(cluster.instances.map(({ state }) => state)).toEqual(['ready', 'starting', 'starting'])
  const client = session.client()
  expect(await (await client.get('http://calc/')).text()).toBe('new')
  next.open()
  await waitForReady(session, 'http://calc', 3)
})

test('of several old instances each goes when one more new one is ready, and the last stays until then', async () => {
  const old = gated('old', 3)
  const session = openSession(old.provider)
  const before = session.startup({ url: 'http://calc', initSize: 3 })
  await waitForReady(session, 'http://calc', 3)
  const next = gated('new', 2)
  const options = { url: 'http://calc', provider: next.provider, initSize: 3, startTimeout: NEVER }
  const updated = session.update(options)
  // Two new ones are up, the third is not: one old instance is left, and no fewer.
  await waitUntil(() => before.size === 1 && session.cluster('http://calc').size === 3)
  await waitUntil(() => before.instances.length === 1)
  await runEventLoop()
  expect([before.size, before.instances.map(({ state }) => state)]).toEqual([1, ['ready']])
  next.open()
  await updated
  await waitForReady(session, 'http://calc', 3)
})
