// The main job from end to end, and what `npm run demo` runs: a calculator at one URL on three instances, fifty
// additions, an instance killed halfway, sizes that a load balancer sets, and the metrics of it all.
// `--provider docker` runs the same on containers.
import { fileURLToPath } from 'node:url'
import { Session, SimpleLoadBalancer } from 'manyhost'
import { image, provider } from './lib/provider.js'

const server = fileURLToPath(new URL('./calculator-server.js', import.meta.url))

const session = new Session({ provider, tickInterval: 100 })
process.once('SIGINT', () => void session.close().then(() => process.exit(130)))

session.on('instance', ({ instance, state, reason }) => {
  if (state === 'ready' || state === 'failed') {
    console.log(`  ${instance} is ${state}${reason ? ` (${reason})` : ''}`)
  }
})

/** How the server of each instance is killed, on its own machine. */
const kills = new Map()

session.startup(
  { url: 'http://calc', image, initSize: 3, ready: '/health' },
  // The server goes where the instance is, which may be here; it writes which process it is.
  async (ctx) => {
    await ctx.upload(server, server)
    kills.set(ctx.env.MANYHOST_INSTANCE, (pid) => ctx.run('sh', '-c', `kill -9 ${pid}`))
    await ctx.spawn('sh', '-c', 'echo "pid $$"; exec node "$0"', server)
  },
)

console.log('50 additions on three instances; one of them is killed halfway:')
const client = session.client({ timeout: 30_000 })
let done = 0
const sums = await Promise.all(
  Array.from({ length: 50 }, async (_, i) => {
    const response = await client.get(`http://calc/add/${i}/${i}`)
    const sum = await response.raiseForStatus().json()
    done++
    if (done === 25) kill(session.cluster('http://calc'))
    progress(done, 50)
    return sum
  }),
)
console.log(`\nresults: ${sums.slice(0, 8).join(' ')} ... ${sums.at(-1)}`)
if (sums.some((sum, i) => sum !== 2 * i)) throw new Error('an addition came out wrong')

// From here on a load balancer says how many instances there are: more while requests wait, fewer when none do.
session.setSize(
  'http://calc',
  (cluster) => new SimpleLoadBalancer(cluster, { interval: 100, max: 5, initial: 2 }),
)
console.log('a load balancer has the size now; 200 multiplications:')
let most = 0
const watch = setInterval(() => {
  most = Math.max(most, session.cluster('http://calc').size)
}, 20)
await Promise.all(
  Array.from({ length: 200 }, (_, i) => client.get(`http://calc/mul/${i}/2`).then((r) => r.text())),
)
clearInterval(watch)
console.log(`it wanted up to ${most} instances`)

const metrics = (await session.metrics.metrics()).split('\n')
const shown = /^manyhost_(requests|resends|starts|executed_twice)_total/
console.log(`\n${metrics.filter((line) => shown.test(line)).join('\n')}`)

await session.close()

/** Ends one instance's server the hard way, as an out-of-memory killer would. */
function kill(cluster) {
  const instance = cluster.instances.find(
    ({ state, inFlight }) => state === 'ready' && inFlight > 0,
  )
  const pid = /pid (\d+)/.exec(instance?.output.text() ?? '')?.[1]
  const end = kills.get(instance?.id)
  if (!pid || !end) return
  process.stdout.write(`\n  kill -9 ${instance.id}\n`)
  // It may end together with what ends it.
  end(pid).catch(() => {})
}

function progress(count, total) {
  const bar = '#'.repeat(Math.round((count / total) * 40)).padEnd(40, '.')
  if (process.stdout.isTTY) process.stdout.write(`\r  [${bar}] ${count}/${total}`)
  else if (count % 10 === 0) console.log(`  ${count}/${total}`)
}
