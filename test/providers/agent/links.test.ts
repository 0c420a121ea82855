/** The link of an agent: cut, late, forged, replayed, flooded; and what the hub makes of each. */
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
import { cleanups, here, opened, relay, serving, unending } from './auto-closed.ts'
import { KEY, waitForAgents } from './help.ts'

/** A link with the right key, that says what it likes. */
async function sly(provider: AgentsProvider): Promise<WireEnds> {
  const [host = '', port] = (await provider.address()).split(':')
  const ends = await dial({ host, port: Number(port), key: KEY, ident: 'sly' }, {})
  cleanups.push(() => ends.po.disconnect())
  return ends
}

const machine = {
  boot: 'b',
  name: 'sly',
  maxInstances: 1,
  cpus: 1,
  memory: 1,
  labels: {},
  capabilities: ['command'],
  provider: 'x',
  instances: [],
}

/** Says something and ends when it is asked for anything. */
const DYING = `require('node:http')
  .createServer(() => process.stdout.write('last words\\n', () => process.exit(7)))
  .listen(process.env.PORT, process.env.HOST)`

describe('a link that is cut', () => {
  it('comes back, and its instances have not noticed', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    // Both connections of its pool are there, and stay.
    const [pid] = await Promise.all([1, 2].map(() => get(running.dispatcher, '/sleep/100')))
    const slow = get(running.dispatcher, '/sleep/700')
    road.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    road.mend()
    await waitForAgents(provider)
    expect(await slow).toBe(pid)
    expect(await get(running.dispatcher, '/pid')).toBe(pid)
    expect(provider.agents[0]?.instances).toEqual([running.id])
  })

  it('an instance that ended meanwhile has ended, and what it wrote meanwhile comes', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    const told: string[] = []
    here(road.address, { onEvent: ({ what }) => told.push(what) })
    let output = ''
    const running = await serving(provider, {
      command: ['node', '-e', DYING],
      onOutput: (text: string) => (output += text),
    })
    const exits: unknown[] = []
    void running.exited.then((exit) => exits.push(exit, output))
    const since = provider.agents[0]?.since
    road.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    await fetch(String(running.address?.split(' ')[0])).catch(() => {})
    await waitUntil(() => told.includes('ended'), 'its agent knows of its end')
    road.mend()
    await waitForAgents(provider)
    // All of it was heard before the agent counts as back.
    expect(exits).toMatchObject([{ reason: 'exited' }, expect.stringMatching(/^last words$/m)])
    expect(provider.agents).toMatchObject([{ since, instances: [] }])
  })

  it('a stop that was asked for meanwhile happens when it is back', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    road.cutLink()
    await waitUntil(() => provider.agents[0]?.state === 'away')
    const stopped = running.stop(0)
    road.mend()
    await stopped
    expect(findInstancePids(running.id)).toEqual([])
    expect(await running.exited).toMatchObject({ reason: 'stopped' })
  })

  it('for too long: both sides have ended what was there, each on its own clock', async () => {
    const provider = opened({ evictAfter: 4_000, returnWithin: 4_000 })
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    road.freeze()
    expect(await running.exited).toMatchObject({ reason: 'lost' })
    expect(provider.agents).toEqual([])
    await waitUntil(() => findInstancePids(running.id).length === 0)
  })

  it('for good: its agent ends after its `hubTimeout`, counted anew from each link that there was', async () => {
    const clock = useFalseClock()
    const provider = opened()
    const road = await relay(await provider.address())
    const told: string[] = []
    const note = ({ what, detail }: AgentNotice): void => void told.push(`${what} ${detail}`)
    const { ended } = here(road.address, { hubTimeout: 60_000, onEvent: note })
    const times = (what: string): number => told.filter((one) => one.startsWith(what)).length
    const ending = 'ending no hub for 60000 ms'
    await clock.passUntil(100, () => times('connected') === 1)
    // With a hub it stays, however long that is.
    for (let i = 0; i < 900; i++) await clock.pass(100)
    expect(told).not.toContain(ending)

    const cut = async (): Promise<number> => {
      const before = times('lost')
      road.cutLink()
      road.sockets.at(-1)?.resetAndDestroy()
      await clock.passUntil(1, () => times('lost') > before)
      return now()
    }
    const first = await cut()
    await clock.passUntil(100, () => now() > first + 50_000)
    road.mend()
    // In small steps: the connection is a real one, and takes its time of the clock on the wall.
    await clock.passUntil(1, () => times('connected') === 2)
    expect(now()).toBeLessThan(first + 60_000)

    const last = await cut()
    await clock.passUntil(100, () => told.includes(ending))
    await ended
    expect(now() - last).toBeGreaterThan(59_000)
    expect(now() - last).toBeLessThan(61_000)
  })
})

it('a line of 200 ms there and back: all of it works, and is only later', async () => {
  const provider = opened()
  const road = await relay(await provider.address(), 100)
  here(road.address)
  let said = ''
  const running = await serving(provider, {
    command: undefined,
    startup: async (context: StartupContext) => {
      said = await context.run('echo', 'far away')
      await context.upload('package.json', '/tmp/manyhost-far-package.json')
      await context.run('rm', '/tmp/manyhost-far-package.json')
      await context.spawn(service[0] ?? '', ...service.slice(1))
    },
  })
  expect(said).toBe('far away\n')
  const pids = await Promise.all([1, 2, 3].map(() => get(running.dispatcher, '/pid')))
  expect(new Set(pids).size).toBe(1)
})

describe('who does not belong there', () => {
  it('a handshake that was overheard is of no use', async () => {
    const provider = opened()
    const address = await provider.address()
    const road = await relay(address)
    here(road.address)
    await waitForAgents(provider)
    let refused = 0
    provider.on('refused', () => refused++)
    const [host = '', port] = address.split(':')
    const thief = connect({ host, port: Number(port) })
    cleanups.push(() => thief.destroy())
    let answer = ''
    thief.on('data', (chunk) => {
      answer += chunk
    })
    thief.on('error', () => {})
    thief.write(Buffer.concat(road.said[0] ?? []))
    await once(thief, 'close')
    expect(answer).toContain('#err]authentication failed')
    await waitUntil(() => refused === 1)
    expect(provider.agents.length).toBe(1)
  })

  it('connections that say nothing are bounded, and agents do not notice', async () => {
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
    await waitUntil(() => idle.filter(({ closed }) => closed).length >= 15, 'most are hung up on')
    expect(await get(running.dispatcher, '/pid')).toMatch(/^\d+$/)
    expect(provider.agents[0]?.state).toBe('up')
  })

  it('one agent more than there may be is refused, and told why', async () => {
    const provider = opened({ maxAgents: 1 })
    here(await provider.address())
    await waitForAgents(provider)
    const { po } = await sly(provider)
    expect(await rejectionOf(po.call('hello', machine))).toMatchObject({
      code: 'MANYHOST_AGENT_REFUSED',
    })
  })

  it('the fencing number of another time is refused', async () => {
    const registry = new Registry()
    const provider = opened({ registry })
    const { po } = await sly(provider)
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.call('ready', fence)
    expect(provider.agents[0]?.name).toBe('sly')
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
    ['no object', 7],
    ['labels that are none', { ...machine, labels: { a: 1 } }],
    [
      'too many labels',
      {
        ...machine,
        labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, ''])),
      },
    ],
    ['a long name', { ...machine, name: 'x'.repeat(129) }],
    ['a negative maxInstances', { ...machine, maxInstances: -1 }],
  ])('a hello with %s is refused, and the link lives', async (_, said) => {
    const provider = opened()
    const { po } = await sly(provider)
    expect(await rejectionOf(po.call('hello', said))).toMatchObject({
      code: 'MANYHOST_WIRE_PROTOCOL',
    })
    expect(po.isConnected).toBe(true)
    expect(provider.agents).toEqual([])
  })

  it('tickets that were not issued open nothing', async () => {
    const provider = opened()
    const { po } = await sly(provider)
    expect(await po.call('lane', 'f'.repeat(32))).toBe(false)
    expect(await po.call('files', 'f'.repeat(32))).toBe(false)
    expect(await rejectionOf(po.call('entry', 'file', 'tree', 0, 0, ''))).toMatchObject({
      code: 'MANYHOST_WIRE_PROTOCOL',
    })
  })

  it('an agent says by itself what it cannot do: the start goes on, and ends', async () => {
    const provider = opened({ returnWithin: 0 })
    const { po } = await sly(provider)
    // It has no function `start`.
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.notif(code`ready(${fence})`)
    const spec = specOf({ command: service })
    const error = rejectionOf(provider.start(spec, { signal: unending }))
    await waitUntil(() => provider.agents[0]?.instances.length === 1)
    await po.disconnect()
    expect(await error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
  })
})
