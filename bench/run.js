/**
 * `npm run bench -- [names] [--quick | --full]`: manyhost beside its peers, each in the same run on the same machine;
 * tables, no assertions. A scenario is a process of its own, so that none finds the heap of another.
 *
 *   throughput     requests a second beside undici's pools and fetch, and proxies
 *   ideal-queue    waiting beside the ideal queue, random, round robin, two choices
 *   slow-instance  one of 11 instances takes 2 s: who is answered within 1 s
 *   kill           instances are killed, frozen, resized: requests lost and executed twice
 *   scale          1,000 instances, 1,000,000 waiting requests, 100,000 aborts
 *   reaction       cold start, resize, replacement
 *   pull           jobs of workers that poll: submitted, claimed and answered a second
 *   overhead       CPU of a request without any network
 *   wire           conversations: calls, notifications, blobs
 *   agents         requests through an agent's tunnel; 1,000 agents held by one hub
 *   engines        setSize(n) to n ready on each engine that is there, beside its own command
 *   tasks-store    the store of tasks: its operations at 100,000 and at many more, outcomes a second
 *   runner         shell tasks a second beside xargs -P
 *   feed           messages a second through the feed's broker, fan-out, idle subscribers
 *   tasks          tasks from a source to their outcome in the store, beside xargs -P
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { flags, names, pick } from './lib/args.js'
import { onClientCore, where } from './lib/cores.js'

const SCENARIOS = [
  'throughput',
  'gateway',
  'ideal-queue',
  'slow-instance',
  'kill',
  'scale',
  'reaction',
  'pull',
  'overhead',
  'wire',
  'agents',
  'engines',
  'tasks-store',
  'runner',
  'feed',
  'tasks',
]

/** Where what is measured is as many processes beside each other as there are cores, as the peers have them. */
const ON_ALL_CORES = new Set(['runner', 'tasks'])

const unknown = names.filter((name) => !SCENARIOS.includes(name))
if (unknown.length > 0) {
  console.log(`no scenario ${unknown.join(', ')}; there are ${SCENARIOS.join(', ')}`)
  process.exit(1)
}
console.log(`Node ${process.version}, ${cpus()[0]?.model}; ${where}`)
console.log(
  pick(
    'quick: about 3 minutes; figures are rough',
    'about 12 minutes; --quick for 3, --full for the long forms',
    'full: about 35 minutes',
  ),
)
const begun = performance.now()
for (const name of names.length > 0 ? names : SCENARIOS) {
  const script = fileURLToPath(new URL(`./scenarios/${name}.js`, import.meta.url))
  // A million waiting requests need their room.
  const options = ['--expose-gc', '--max-old-space-size=8192']
  const own = [process.execPath, ...options, script, ...flags]
  const [command, ...args] = ON_ALL_CORES.has(name) ? own : onClientCore(own)
  if (ON_ALL_CORES.has(name)) console.log(`\n${name}: on all cores`)
  const [code, signal] = await once(spawn(command, args, { stdio: 'inherit' }), 'exit')
  if (code !== 0) console.log(`\n!!! ${name} ended with ${signal ?? `exit code ${code}`}`)
}
console.log(`\n${Math.round((performance.now() - begun) / 1_000)} s`)
