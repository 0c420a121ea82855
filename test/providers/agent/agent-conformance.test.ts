/** The conformance suite of providers, on the machine of an agent. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll } from 'vitest'
import type { Provider } from '../../../src/core/provider.ts'
import { findInstancePids } from '../../help.ts'
import { portBase } from '../../ports.ts'
import { conformance } from '../conformance.ts'
import { KEY, type LocalAgent, openTestAgents, startLocalAgent } from './help.ts'

const scratch = mkdtempSync(join(tmpdir(), 'manyhost-conformance-agent-'))
const elsewhere = `127.0.0.1:${portBase}`
/** For the session that is killed: this agent connects to any hub at that address. */
const waiting = startLocalAgent(elsewhere, { maxInstances: 8 })
afterAll(async () => {
  await waiting.end()
  rmSync(scratch, { recursive: true, force: true })
})

/** A hub with an agent that ends with the hub. */
function withAgent(): Provider {
  const provider = openTestAgents()
  const agent: Promise<LocalAgent> = provider
    .address()
    .then((address) => startLocalAgent(address, { maxInstances: 40 }))
  const { close } = provider
  return Object.assign(provider, {
    async close() {
      await close?.call(provider)
      await (await agent).end()
    },
  })
}

async function signal(id: string, name: NodeJS.Signals): Promise<void> {
  for (const pid of findInstancePids(id)) process.kill(pid, name)
}

conformance({
  name: 'agent',
  provider: withAgent,
  server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
  scratch,
  exists: async (id) => findInstancePids(id).length > 0,
  kill: (id) => signal(id, 'SIGKILL'),
  freeze: (id) => signal(id, 'SIGSTOP'),
  thaw: (id) => signal(id, 'SIGCONT'),
  elsewhere: {
    module: 'providers/agent/index.js',
    make: 'agents',
    options: { listen: elsewhere, key: KEY, beat: 500, evictAfter: 5_000, returnWithin: 0 },
  },
  cannot: {
    labels: 'they choose the agent; its processes have none',
    resources: 'they choose the agent; its processes have none',
    'out of memory': 'the processes of the agent have no limit of their own to exceed',
    unreachable: 'an agent that is away is tried in its own tests',
  },
})
