/**
 * Machines that dial in. First, requests a second through an agent's lane beside those straight to the same server, the
 * agent on the server's core; theory: a lane is two more reads and writes a request, on that core, and none on ours.
 * Then what it costs to hold 1,000 agents with 10 instances each, a tunnel open to each: beats, watches and nothing else.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { agents } from 'manyhost/providers/agent'
import { Registry } from 'prom-client'
import { Pool } from 'undici'
import { pick } from '../lib/args.js'
import { closedLoop } from '../lib/load.js'
import { rounds } from '../lib/rounds.js'
import { startServers } from '../lib/servers.js'
import { ratio, table } from '../lib/table.js'

const key = 'the key of a bench, of no use elsewhere'
process.env.MANYHOST_AGENT_KEY = key
const CONNECTIONS = 32
const never = () => ({ signal: new AbortController().signal })

function specOf(id, concurrency) {
  return {
    id,
    service: 'http://bench',
    command: ['x'],
    env: {},
    labels: {},
    concurrency,
    onOutput() {},
  }
}

async function until(holds) {
  while (!holds()) await sleep(20)
}

const text = async ({ body }) => body.text()
const ask = (dispatcher) => () => dispatcher.request({ path: '/', method: 'GET' }).then(text)

async function throughput() {
  const server = await startServers('canned', 1)
  const [url] = server.urls
  const hub = agents({ listen: '127.0.0.1:0', key })
  const agent = await startServers('agents', await hub.address(), 1, 4, new URL(url).port)
  const lane = await hub.start(specOf('one', CONNECTIONS - 1), never())
  const straight = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const ms = pick(300, 1_000, 3_000)
  /** Requests a second of CPU of the core that has most to do: what the rate is where nobody else has work. */
  const measure = async (dispatcher) => {
    const before = server.cpu() + agent.cpu()
    const { rate, cpu, count } = await closedLoop(ask(dispatcher), CONNECTIONS, ms)
    const there = (server.cpu() + agent.cpu() - before) / count
    return { rate, cpu, there, perCpu: 1_000_000 / Math.max(cpu, there) }
  }
  const figures = await rounds(
    {
      straight: () => measure(straight),
      'through a lane': () => measure(lane.dispatcher),
    },
    { count: pick(5, 9, 15), base: 'straight', warmups: 2 },
  )
  table(
    `agents: one agent, ${CONNECTIONS} connections, agent and server on one core`,
    ['', 'req/s', 'beside straight', 'us CPU/req here', 'us CPU/req there', 'by CPU'],
    Object.entries(figures).map(([name, one]) => [
      name,
      Math.round(one.rate),
      ratio(one.ratio.rate),
      one.cpu,
      one.there,
      ratio(one.ratio.perCpu),
    ]),
  )
  await straight.destroy()
  await hub.close()
  await agent.stop()
  await server.stop()
}

async function held() {
  const [count, perAgent, processes] = [pick(200, 1_000), 10, 4]
  const registry = new Registry()
  // Long: 200 at a time are dialled by processes that share one core with whatever else runs there.
  const hub = agents({ listen: '127.0.0.1:0', key, registry, tunnelTimeout: 120_000 })
  const address = await hub.address()
  const players = []
  for (let i = 0; i < processes; i++) {
    players.push(await startServers('agents', address, count / processes, perAgent))
  }
  await until(() => hub.agents.filter(({ state }) => state === 'up').length === count)
  const instances = []
  while (instances.length < count * perAgent) {
    const batch = Array.from({ length: 200 }, (_, i) =>
      hub.start(specOf(`i-${instances.length + i}`, 1), never()),
    )
    const started = await Promise.all(batch)
    // Each opens its lane.
    await Promise.all(started.map(({ dispatcher }) => ask(dispatcher)()))
    instances.push(...started)
  }
  await sleep(2_000)
  global.gc?.()
  const cpu = process.cpuUsage()
  const begun = performance.now()
  await sleep(pick(10_000, 20_000, 60_000))
  const { user, system } = process.cpuUsage(cpu)
  const wall = 1_000 * (performance.now() - begun)
  const { values } = await registry.getSingleMetric('manyhost_agent_lanes').get()
  const up = hub.agents.filter(({ state }) => state === 'up').length
  // None of them had to be made anew.
  const again = await Promise.all(
    instances.slice(0, 200).map(({ dispatcher }) => ask(dispatcher)()),
  )
  table(
    'agents: held by one hub, beats and watches of all of them',
    ['agents', 'instances', 'tunnels held', 'hub CPU', 'MB', 'still up', 'answer'],
    [
      [
        count,
        count * perAgent,
        values[0].value,
        `${((100 * (user + system)) / wall).toFixed(1)} %`,
        Math.round(process.memoryUsage().rss / 1e6),
        up,
        again.length,
      ],
    ],
  )
  for (const player of players) await player.stop()
}

await throughput()
await held()
process.exit()
