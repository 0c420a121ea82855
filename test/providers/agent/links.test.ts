/** The link of an agent: cut, slow, forged, replayed, flooded; and what the hub does in each case. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import type { AgentNotice, AgentsProvider } from '../../../providers/agent/index.ts'
import type { StartupContext } from '../../../src/core/provider.ts'
import { now } from '../../../src/core/time.ts'
import { code, dial, type WireEnds } from '../../../src/wire/index.ts'
import { useFalseClock } from '../../clock.ts'
import { findInstancePids, rejectionOf, service, waitUntil } from '../../help.ts'
import { get, specOf } from '../process-help.ts'
import { cleanups, here, opened, serving, startProxy, unending } from './auto-closed.ts'
import { KEY, waitForAgents } from './help.ts'

/** A link with the right key, over which a test can send any message. */
async function dialAsAgent(provider: AgentsProvider): Promise<WireEnds> {
  const [host = '', port] = (await provider.address()).split(':')
  const ends = await dial({ host, port: Number(port), key: KEY, ident: 'forged' }, {})
  cleanups.push(() => ends.po.disconnect())
  return ends
}

const machine = {
  boot: 'b',
  name: 'forged',
  maxInstances: 1,
  cpus: 1,
  memory: 1,
  labels: {},
  capabilities: ['command'],
  provider: 'x',
  instances: [],
}

/** A server that writes a line and exits when it gets a request. */
const DYING = `require('node:http')
  .createServer(() => process.stdout.write('last words\\n', () => process.exit(7)))
  .listen(process.env.PORT, process.env.HOST)`

describe('a link that is cut', () => {
  it('comes back, and requests under way and instances live on', async () => {
    const provider = opened()
    const proxy = await startProxy(await provider.address())
    here(proxy.address)
    const running = await serving(provider)
    // Opens both connections of the pool, so that no tunnel is needed while the link is cut.
    const [pid] = await Promise.all([1, 2].map(() => get(running.dispatcher, '/sleep/100')))
    const slow = get(running.dispatcher, '/sleep/700')
    proxy.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    proxy.mend()
    await waitForAgents(provider)
    expect(await slow).toBe(pid)
    expect(await get(running.dispatcher, '/pid')).toBe(pid)
    expect(provider.agents[0]?.instances).toEqual([running.id])
  })

  it('an instance that ends while the link is cut is reported afterwards, with its output', async () => {
    const provider = opened()
    const proxy = await startProxy(await provider.address())
    const notices: string[] = []
    here(proxy.address, { onEvent: ({ what }) => notices.push(what) })
    let output = ''
    const running = await serving(provider, {
      command: ['node', '-e', DYING],
      onOutput: (text: string) => (output += text),
    })
    const exits: unknown[] = []
    void running.exited.then((exit) => exits.push(exit, output))
    const since = provider.agents[0]?.since
    proxy.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    await fetch(String(running.address?.split(' ')[0])).catch(() => {})
    await waitUntil(() => notices.includes('ended'), 'the agent reports the end of the instance')
    proxy.mend()
    await waitForAgents(provider)
    // The hub has heard all of it before it counts the agent as up.
    expect(exits).toMatchObject([{ reason: 'exited' }, expect.stringMatching(/^last words$/m)])
    expect(provider.agents).toMatchObject([{ since, instances: [] }])
  })

  it('a stop that is asked for while the link is cut happens when the link is back', async () => {
    const provider = opened()
    const proxy = await startProxy(await provider.address())
    here(proxy.address)
    const running = await serving(provider)
    proxy.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    const stopped = running.stop(0)
    proxy.mend()
    await stopped
    expect(findInstancePids(running.id)).toEqual([])
    expect(await running.exited).toMatchObject({ reason: 'stopped' })
  })

  it('for too long: the hub loses the instance, and the agent ends it', async () => {
    const provider = opened({ evictAfter: 4_000, returnWithin: 4_000 })
    const proxy = await startProxy(await provider.address())
    here(proxy.address)
    const running = await serving(provider)
    proxy.freeze()
    expect(await running.exited).toMatchObject({ reason: 'lost' })
    expect(provider.agents).toEqual([])
    await waitUntil(() => findInstancePids(running.id).length === 0)
  })

  it('for good: the agent ends after its `hubTimeout`, which begins anew at the end of each link', async () => {
    const clock = useFalseClock()
    const provider = opened()
    const proxy = await startProxy(await provider.address())
    const notices: string[] = []
    const note = ({ what, detail }: AgentNotice): void => void notices.push(`${what} ${detail}`)
    const { ended } = here(proxy.address, { hubTimeout: 60_000, onEvent: note })
    const times = (what: string): number => notices.filter((one) => one.startsWith(what)).length
    const ending = 'ending no hub for 60000 ms'
    await clock.passUntil(100, () => times('connected') === 1)
    // While it has a hub, it does not end.
    for (let i = 0; i < 900; i++) await clock.pass(100)
    expect(notices).not.toContain(ending)

    const cut = async (): Promise<number> => {
      const before = times('lost')
      proxy.cutLink()
      proxy.sockets.at(-1)?.resetAndDestroy()
      await clock.passUntil(1, () => times('lost') > before)
      return now()
    }
    const first = await cut()
    await clock.passUntil(100, () => now() > first + 50_000)
    proxy.mend()
    // In small steps: the connection is a real one, and takes real time.
    await clock.passUntil(1, () => times('connected') === 2)
    expect(now()).toBeLessThan(first + 60_000)

    const last = await cut()
    await clock.passUntil(100, () => notices.includes(ending))
    await ended
    expect(now() - last).toBeGreaterThan(59_000)
    expect(now() - last).toBeLessThan(61_000)
  })
})

it('a startup function, files and requests work over a line with a round trip of 200 ms', async () => {
  const provider = opened()
  const proxy = await startProxy(await provider.address(), 100)
  here(proxy.address)
  let stdout = ''
  const running = await serving(provider, {
    command: undefined,
    startup: async (context: StartupContext) => {
      stdout = await context.run('echo', 'far away')
      await context.upload('package.json', '/tmp/manyhost-far-package.json')
      await context.run('rm', '/tmp/manyhost-far-package.json')
      await context.spawn(service[0] ?? '', ...service.slice(1))
    },
  })
  expect(stdout).toBe('far away\n')
  const pids = await Promise.all([1, 2, 3].map(() => get(running.dispatcher, '/pid')))
  expect(new Set(pids).size).toBe(1)
})

describe('a peer that is no honest agent', () => {
  it('an overheard handshake is refused', async () => {
    const provider = opened()
    const address = await provider.address()
    const proxy = await startProxy(address)
    here(proxy.address)
    await waitForAgents(provider)
    let refused = 0
    provider.on('refused', () => refused++)
    const [host = '', port] = address.split(':')
    const intruder = connect({ host, port: Number(port) })
    cleanups.push(() => intruder.destroy())
    let answer = ''
    intruder.on('data', (chunk) => {
      answer += chunk
    })
    intruder.on('error', () => {})
    intruder.write(Buffer.concat(proxy.received[0] ?? []))
    await once(intruder, 'close')
    expect(answer).toContain('#err]authentication failed')
    await waitUntil(() => refused === 1)
    expect(provider.agents.length).toBe(1)
  })

  it('silent connections beyond the limit are closed, and agents are not disturbed', async () => {
    const provider = opened({ maxAgents: 2, maxGreeting: 3 })
    const address = await provider.address()
    here(address)
    const running = await serving(provider)
    const [host = '', port] = address.split(':')
    const idle = Array.from({ length: 20 }, () => {
      const socket = connect({ host, port: Number(port) })
      socket.on('error', () => {})
      cleanups.push(() => socket.destroy())
      return socket
    })
    await waitUntil(
      () => idle.filter(({ closed }) => closed).length >= 15,
      'at least 15 of 20 are closed',
    )
    expect(await get(running.dispatcher, '/pid')).toMatch(/^\d+$/)
    expect(provider.agents[0]?.state).toBe('up')
  })

  it('one agent more than maxAgents is refused with an error', async () => {
    const provider = opened({ maxAgents: 1 })
    here(await provider.address())
    await waitForAgents(provider)
    const { po } = await dialAsAgent(provider)
    expect(await rejectionOf(po.call('hello', machine))).toMatchObject({
      code: 'MANYHOST_AGENT_REFUSED',
    })
  })

  it('messages with an old fence are refused and counted', async () => {
    const registry = new Registry()
    const provider = opened({ registry })
    const { po } = await dialAsAgent(provider)
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.call('ready', fence)
    expect(provider.agents[0]?.name).toBe('forged')
    for (const name of ['ready', 'bye', 'leave']) {
      expect(await rejectionOf(po.call(name, fence - 1, ''))).toMatchObject({
        code: 'MANYHOST_AGENT_FENCED',
      })
    }
    expect(await rejectionOf(po.call('log', fence, 'nobody', 'x'))).toMatchObject({
      code: 'MANYHOST_AGENT_FENCED',
    })
    expect(await registry.metrics()).toMatch(/manyhost_agent_fenced_total 3/)
    expect(await registry.metrics()).toContain('manyhost_agent_agents{state="up"} 1')
  })

  it.each([
    ['a number', 7],
    ['a label that is no string', { ...machine, labels: { a: 1 } }],
    [
      'too many labels',
      {
        ...machine,
        labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, ''])),
      },
    ],
    ['a long name', { ...machine, name: 'x'.repeat(129) }],
    ['a negative maxInstances', { ...machine, maxInstances: -1 }],
  ])('a hello with %s is refused, and the link lives', async (_, hello) => {
    const provider = opened()
    const { po } = await dialAsAgent(provider)
    expect(await rejectionOf(po.call('hello', hello))).toMatchObject({
      code: 'MANYHOST_WIRE_PROTOCOL',
    })
    expect(po.isConnected).toBe(true)
    expect(provider.agents).toEqual([])
  })

  it('tokens that were not issued are refused', async () => {
    const provider = opened()
    const { po } = await dialAsAgent(provider)
    expect(await po.call('lane', 'f'.repeat(32))).toBe(false)
    expect(await po.call('files', 'f'.repeat(32))).toBe(false)
    expect(await rejectionOf(po.call('entry', 'file', 'tree', 0, 0, ''))).toMatchObject({
      code: 'MANYHOST_WIRE_PROTOCOL',
    })
  })

  it('a start on an agent that has no function `start` fails', async () => {
    const provider = opened({ returnWithin: 0 })
    const { po } = await dialAsAgent(provider)
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.notif(code`ready(${fence})`)
    const spec = specOf({ command: service })
    const error = rejectionOf(provider.start(spec, { signal: unending }))
    await waitUntil(() => provider.agents[0]?.instances.length === 1)
    await po.disconnect()
    expect(await error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
  })
})
