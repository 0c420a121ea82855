/** A hub, and agents in processes of their own: they come, leave, freeze and return, and requests are not lost. */
import { resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { AgentEvent, AgentsProvider } from '../../../providers/agent/index.ts'
import { Session } from '../../../src/index.ts'
import { countStates, findInstancePids, service, waitForReady, waitUntil } from '../../help.ts'
import { portBase } from '../../ports.ts'
import { get, specOf } from '../process-help.ts'
import {
  type AgentProcess,
  buildCommandLine,
  openTestAgents,
  removeBuild,
  spawnAgent,
  waitForAgents,
} from './help.ts'

const url = 'http://far'
const far: AgentProcess[] = []
const sessions: Session[] = []

afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close({ force: true })))
  for (const agent of far.splice(0)) {
    agent.signal('SIGCONT')
    agent.signal('SIGKILL')
    await agent.exit
  }
})
// The compiler is slow on a busy machine.
beforeAll(buildCommandLine, 300_000)
afterAll(removeBuild)

async function start(provider: AgentsProvider, ...args: string[]): Promise<AgentProcess> {
  const agent = await spawnAgent(await provider.address(), '--max-instances', '4', ...args)
  far.push(agent)
  return agent
}

function open(provider: AgentsProvider, size: number, options = {}): Session {
  const session = new Session({ provider, tickInterval: 100 })
  sessions.push(session)
  session.startup({ url, command: service, initSize: size, ...options })
  return session
}

function events(provider: AgentsProvider): AgentEvent[] {
  const all: AgentEvent[] = []
  provider.on('agent', (event) => all.push(event))
  return all
}

function ids(session: Session): string[] {
  return session.cluster(url).instances.map(({ id }) => id)
}

/** Sends requests until `end`, which resolves with the number of responses. Rejects if a request fails. */
function traffic(session: Session): { end(): Promise<number> } {
  let isOver = false
  const client = session.client()
  const one = async (): Promise<number> => {
    let count = 0
    while (!isOver) {
      const response = await client.get(`${url}/sleep/20`)
      expect(response.status).toBe(200)
      await response.text()
      count++
    }
    return count
  }
  const all = Array.from({ length: 4 }, one)
  return {
    async end() {
      isOver = true
      return (await Promise.all(all)).reduce((sum, count) => sum + count)
    },
  }
}

describe('an agent of its own process', { timeout: 240_000 }, () => {
  it('serves requests of services that require its labels', async () => {
    const provider = openTestAgents()
    const agent = await start(provider, '--name', 'lab', '--label', 'gpu=a100')
    const session = open(provider, 2, { labels: { 'require.gpu': 'a100' } })
    await waitForReady(session, url, 2)
    expect((await session.client().get(`${url}/pid`)).status).toBe(200)
    expect(provider.agents).toMatchObject([
      { name: 'lab', state: 'up', maxInstances: 4, labels: { gpu: 'a100' }, provider: 'process' },
    ])
    expect(provider.agents[0]?.instances.length).toBe(2)
    expect(session.cluster(url).instances.length).toBe(2)
    await waitUntil(
      () => agent.output().includes('connected'),
      'the agent prints that it is connected',
    )
  })

  it('killed by SIGKILL: no request fails, and its processes end', async () => {
    const provider = openTestAgents({ returnWithin: 0 })
    const seen = events(provider)
    const [first] = [await start(provider, '--name', 'one'), await start(provider, '--name', 'two')]
    await waitForAgents(provider, 2)
    const session = open(provider, 2)
    await waitForReady(session, url, 2)
    expect(provider.agents.map(({ instances }) => instances.length)).toEqual([1, 1])
    const lost = provider.agents.find(({ name }) => name === 'one')?.instances[0] ?? ''
    const load = traffic(session)
    first?.signal('SIGKILL')
    await waitUntil(() => !ids(session).includes(lost), 'the lost one is replaced')
    await waitForReady(session, url, 2)
    expect(await load.end()).toBeGreaterThan(0)
    await waitUntil(() => seen.some(({ change }) => change === 'evicted'), 'it was evicted')
    await waitUntil(() => findInstancePids(lost).length === 0, 'its guard has ended its processes')
  })

  it('killed in the middle of a response without a length: the response ends with an error', async () => {
    const provider = openTestAgents({ returnWithin: 0 })
    const agent = await start(provider)
    const spec = specOf({ command: ['node', resolve('test/fakes/lane-server.mjs'), 'raw'] })
    const signal = new AbortController().signal
    const running = await provider.start(spec, { signal })
    await waitUntil(async () => (await get(running.dispatcher, '/pid').catch(() => '')) !== '')
    const { body } = await running.dispatcher.request({ path: '/hang', method: 'GET' })
    const text = body.text()
    text.catch(() => {})
    agent.signal('SIGKILL')
    await expect(text).rejects.toThrow()
    expect(await running.exited).toMatchObject({ reason: 'lost' })
    await provider.close?.()
  })

  it('frozen: evicted, its requests sent again; thawed: its answers are refused, its instances end', async () => {
    const provider = openTestAgents({ evictAfter: 5_000 })
    const seen = events(provider)
    const agent = await start(provider, '--name', 'cold')
    await waitForAgents(provider)
    const session = open(provider, 1)
    await waitForReady(session, url, 1)
    const [frozen = ''] = ids(session)
    // Nothing answers while the agent is frozen: its tunnel stands still.
    const pending = session.client().get(`${url}/sleep/3000`)
    await waitUntil(() => session.cluster(url).inFlight === 1, 'it is under way')
    agent.signal('SIGSTOP')
    const spare = await start(provider, '--name', 'warm')
    await waitUntil(() => seen.some(({ change }) => change === 'evicted'), 'it was evicted')
    const answer = await pending
    expect(answer.status).toBe(200)
    const [replaced = ''] = ids(session)
    expect(replaced).not.toBe(frozen)
    expect(findInstancePids(frozen).length).toBeGreaterThan(0)
    agent.signal('SIGCONT')
    await waitUntil(
      () => findInstancePids(frozen).length === 0,
      'the agent has ended its old instance',
    )
    await waitForAgents(provider, 2)
    expect(provider.agents.flatMap(({ instances }) => instances)).toEqual([replaced])
    await waitUntil(() => spare.output().includes(replaced), 'the other agent prints its instance')
  })

  it('SIGTERM: its instances are replaced elsewhere and drained, then it ends with 0', async () => {
    const provider = openTestAgents()
    const seen = events(provider)
    const agent = await start(provider, '--name', 'leaving')
    await waitForAgents(provider)
    const session = open(provider, 2, { concurrency: 2 })
    await waitForReady(session, url, 2)
    await start(provider, '--name', 'staying')
    await waitForAgents(provider, 2)
    const before = ids(session)
    const slow = session.client().get(`${url}/sleep/1500`)
    await waitUntil(() => session.cluster(url).inFlight === 1, 'it is under way')
    const load = traffic(session)
    let resends = 0
    session.on('resend', () => resends++)
    agent.signal('SIGTERM')
    expect((await slow).status).toBe(200)
    expect(await agent.exit).toBe(0)
    await waitForReady(session, url, 2)
    expect(await load.end()).toBeGreaterThan(0)
    expect(resends).toBe(0)
    expect(ids(session).some((id) => before.includes(id))).toBe(false)
    expect(seen.map(({ agent: name, change }) => `${name} ${change}`)).toContain('leaving left')
    expect(seen.some(({ change }) => change === 'evicted')).toBe(false)
  })

  it('survives a restart of the hub: its old instances end, and it serves the new hub', async () => {
    const listen = `127.0.0.1:${portBase}`
    const first = openTestAgents({ listen })
    const agent = await start(first)
    const session = open(first, 1)
    await waitForReady(session, url, 1)
    const [old = ''] = ids(session)
    await session.close()
    const second = openTestAgents({ listen })
    const again = open(second, 1)
    await waitForReady(again, url, 1)
    expect(findInstancePids(old)).toEqual([])
    expect(agent.child.exitCode).toBeNull()
  })

  it('is refused with a wrong key, and ends', async () => {
    const provider = openTestAgents({ key: 'quite another key than that' })
    let refused = 0
    provider.on('refused', () => refused++)
    const agent = await start(provider)
    expect(await agent.exit).toBe(6)
    await waitUntil(
      () => /key/.test(agent.output()) && refused > 0,
      'the agent prints it, and the hub reports it',
    )
    expect(provider.agents).toEqual([])
    await provider.close?.()
  })

  it('waits for a hub that does not listen yet', async () => {
    const listen = `127.0.0.1:${portBase}`
    const agent = await spawnAgent(listen, '--max-instances', '1')
    far.push(agent)
    await waitUntil(() => agent.output().includes('lost'), 'an attempt to connect has failed')
    const late = openTestAgents({ listen })
    await late.address()
    await waitForAgents(late)
    expect(countStates(open(late, 1), url)).toBeDefined()
  })

  it('ends when it has been idle for its timeout', async () => {
    const provider = openTestAgents()
    const agent = await start(provider, '--timeout', '300ms')
    expect(await agent.exit).toBe(0)
    await waitUntil(
      () => agent.output().includes('idle for 300 ms'),
      'the agent prints why it ends',
    )
    await provider.close?.()
  })
})
