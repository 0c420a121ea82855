/** A hub and agents in processes of their own: how they come, go, freeze, return, and what becomes of requests. */
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { AgentsProvider } from '../../providers/agent/index.ts'
import { Session } from '../../src/index.ts'
import { pidsOf, ready, service, until } from '../help.ts'
import { agentFar, come, type Far, hub, removeCompiled } from './help.ts'

const url = 'http://far'
const far: Far[] = []
const sessions: Session[] = []

afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close({ force: true })))
  for (const agent of far.splice(0)) {
    agent.signal('SIGCONT')
    agent.signal('SIGKILL')
    await agent.exit
  }
})
afterAll(removeCompiled)

async function start(provider: AgentsProvider, ...args: string[]): Promise<Far> {
  const agent = await agentFar(await provider.address(), '--places', '4', ...args)
  far.push(agent)
  return agent
}

function open(provider: AgentsProvider, size: number, options = {}): Session {
  const session = new Session({ provider, tickInterval: 100 })
  sessions.push(session)
  session.startup({ url, command: service, initSize: size, ...options })
  return session
}

describe('an agent of its own process', { timeout: 60_000 }, () => {
  it('serves requests', async () => {
    const provider = hub()
    const agent = await start(provider, '--name', 'lab', '--label', 'gpu=a100')
    const session = open(provider, 2, { labels: { 'require.gpu': 'a100' } })
    await ready(session, url, 2)
    const answer = await session.client().get(`${url}/pid`)
    expect(answer.status).toBe(200)
    expect(provider.agents).toMatchObject([
      { name: 'lab', state: 'up', places: 4, labels: { gpu: 'a100' }, provider: 'process' },
    ])
    expect(provider.agents[0]?.instances.length).toBe(2)
    expect(agent.said()).toContain('connected')
  })
})
