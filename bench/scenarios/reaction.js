/**
 * How soon something is done: the first answer of a service of size 0, beside the same server spawned directly and
 * asked until it answers; from `setSize(n)` to the provider's starts; from kill -9 of the only instance to the start of
 * the next one. Theory: nothing on these ways has to wait for a tick or a poll, so they cost what a spawn, a look at a
 * port and an exit event cost. Targets: 10 ms more than the server's own time, 5 ms, 50 ms.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Session } from 'manyhost'
import { request } from 'undici'
import { pick } from '../lib/args.js'
import { onServerCore } from '../lib/cores.js'
import { fake, NullDispatcher } from '../lib/fake.js'
import { serverScript } from '../lib/servers.js'
import { median } from '../lib/stats.js'
import { table } from '../lib/table.js'

const RUNS = pick(7, 20, 60)
const URL = 'http://calc/'
const command = onServerCore([process.execPath, serverScript('hello')])

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
  })
}

/** ms from the spawn to the answer, asking without a pause. */
async function direct(run) {
  const port = 19_000 + run
  const begun = performance.now()
  const env = { ...process.env, PORT: String(port) }
  const child = spawn(command[0], command.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] })
  while (!(await accepts(port))) await sleep(1)
  const { body } = await request(`http://127.0.0.1:${port}/`)
  await body.text()
  const took = performance.now() - begun
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
  return took
}

/** ms from the wish to the answer, and from the kill of that instance to the start of the next one. */
async function cold({ size, begin }) {
  const session = new Session()
  session.startup({ url: URL, command, initSize: 0 })
  if (size) session.setSize(URL, size)
  const client = session.client()
  await sleep(50)
  const begun = performance.now()
  const pid = Number(await (await begin(session, client)).text())
  const first = performance.now() - begun
  await sleep(20)
  const starting = new Promise((resolve) => {
    session.on('instance', ({ state }) => state === 'starting' && resolve(performance.now()))
  })
  const killed = performance.now()
  process.kill(pid, 'SIGKILL')
  const replaced = (await starting) - killed
  await session.close({ force: true })
  return { first, replaced }
}

const ways = {
  waits: {
    begin: (session, client) => {
      const answer = client.get(URL)
      session.setSize(URL, 1)
      return answer
    },
  },
  balanced: {
    size: ({ requestQueue, inFlight }) => (requestQueue.size + inFlight > 0 ? 1 : 0),
    begin: (_, client) => client.get(URL),
  },
}

/** ms from setSize to the last of n starts. */
async function resized(n) {
  let started = 0
  let last = 0
  const provider = fake(new NullDispatcher(), () => {
    started++
    last = performance.now()
  })
  const session = new Session({ provider })
  session.startup({ url: URL, initSize: 0, maxStarting: 1_000 })
  await sleep(5)
  const begun = performance.now()
  session.setSize(URL, n)
  while (started < n) await new Promise(setImmediate)
  await session.close({ force: true })
  return last - begun
}

const samples = { direct: [], waits: [], balanced: [], replaced: [], one: [], hundred: [] }
for (let run = -1; run < RUNS; run++) {
  const figures = { direct: await direct(run + 1) }
  for (const [name, way] of Object.entries(ways)) {
    const { first, replaced } = await cold(way)
    figures[name] = first
    figures.replaced = replaced
  }
  figures.one = await resized(1)
  figures.hundred = await resized(100)
  if (run < 0) continue
  for (const [name, figure] of Object.entries(figures)) samples[name].push(figure)
}

const more = (name) => median(samples[name].map((took, run) => took - samples.direct[run]))
const row = (what, name, target, over) => {
  const mine = samples[name]
  return [what, median(mine), Math.min(...mine), Math.max(...mine), over, target]
}
table(
  `reaction, ${RUNS} runs; ms`,
  ['', 'median', 'least', 'most', 'more than direct', 'target'],
  [
    row('spawn to first answer, directly', 'direct', ''),
    row('size 0: setSize(1) to first answer', 'waits', '10 more', more('waits')),
    row('size 0: load balancer, request to answer', 'balanced', '10 more', more('balanced')),
    row('setSize(1) to the start', 'one', '5'),
    row('setSize(100) to the last start', 'hundred', '5'),
    row('kill -9 of the only one to the next start', 'replaced', '50'),
  ],
)
process.exit()
