/** A worker or an agent that connects serves a waiting request at once, without a tick of the session. */
import { expect, onTestFinished, test } from 'vitest'
import { Worker, workers } from '../../providers/pull/index.ts'
import { Session } from '../../src/index.ts'
import { NEVER, nextEvent, service, waitUntil } from '../help.ts'
import { openTestAgents, startLocalAgent } from './agent/help.ts'

const url = 'http://calc'

function open(provider: ConstructorParameters<typeof Session>[0]): Session {
  const session = new Session({ ...provider, tickInterval: NEVER })
  onTestFinished(() => session.close({ force: true }))
  return session
}

test('a pull worker', async () => {
  const provider = workers({ listen: 0 })
  const session = open({ provider })
  session.startup({ url })
  const answer = session.client().post(url, { json: { a: 1 } })
  const { url: api = '' } = await provider.ready()
  const id = await provider.serviceId(url)
  await waitUntil(() => provider.available?.(url) === 0)
  const worker = new Worker({
    url: `${api}/services/${id}`,
    handle: (job) => job.parameters,
  }).start()
  onTestFinished(() => worker.stop(1_000))
  expect(await (await answer).json()).toEqual({ a: 1 })
})

test('an agent', async () => {
  const provider = openTestAgents()
  const session = open({ provider })
  let told = 0
  const off = provider.onAvailable?.(() => told++)
  const starting = nextEvent(session, 'instance', ({ state }) => state === 'starting')
  session.startup({ url, command: service })
  const answer = session.client().get(`${url}/pid`)
  await starting
  const agent = startLocalAgent(await provider.address())
  expect((await answer).status).toBe(200)
  expect(told).toBe(1)
  off?.()
  await session.close()
  await agent.end()
})
