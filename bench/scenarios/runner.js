/**
 * Shell tasks a second: `true` through a runner over plain HTTP, with captured output, TASK_* and process groups, beside
 * `xargs -P` and, where it is installed, GNU parallel. Rounds in turn, so that what else the machine does hits all.
 * Target: 0.8 of xargs.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { request } from 'undici'
import { formatBundleLines, readRunnerMessages } from '../../dist/src/tasks/runner/protocol.js'
import { pick } from '../lib/args.js'
import { median } from '../lib/stats.js'
import { table } from '../lib/table.js'

const TASKS = pick(1_000, 3_000, 10_000)
const ROUNDS = pick(3, 5, 7)
const NUM_TASKS = 2
const program = fileURLToPath(new URL('../../dist/src/tasks/runner/main.js', import.meta.url))

async function startRunner() {
  const env = { ...process.env, MANYHOST_RUNNER_TOKEN: 'a-token-of-the-bench', PORT: '0' }
  const args = [program, '--num-tasks', String(NUM_TASKS)]
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'inherit', 'pipe'] })
  const [text] = await once(child.stderr, 'data')
  child.stderr.resume()
  return { child, url: `http://${/listens on (\S+),/.exec(String(text))[1]}` }
}

/** The same task with all the fields that a store gives it. */
function taskOf(n) {
  return {
    id: `01890a5d-ac96-774b-bcce-${String(n).padStart(12, '0')}`,
    fence: 1,
    args: 'true',
    group: 0,
    submitId: '01890a5d-ac96-774b-bcce-b302099a8057',
    submitTime: 1_700_000_000_000,
    submitHost: 'localhost',
    serverId: '01890a5d-ac96-774b-bcce-b302099a8058',
    serverHost: 'localhost',
    scheduleTime: 1_700_000_000_000,
    attempt: 1,
    retried: false,
    tag: { part: 0 },
  }
}

async function viaRunner(url, bundle) {
  let next = 0
  let done = 0
  const lane = async () => {
    while (next < TASKS) {
      const from = next
      next = Math.min(TASKS, next + bundle)
      const tasks = Array.from({ length: next - from }, (_, n) => taskOf(from + n))
      const { body } = await request(`${url}/tasks`, {
        method: 'POST',
        headers: { authorization: 'Bearer a-token-of-the-bench' },
        body: [...formatBundleLines({}, tasks)].join(''),
      })
      for await (const message of readRunnerMessages(body)) {
        if (message.is !== 'outcomes') continue
        done += message.outcomes.filter(({ exitStatus }) => exitStatus === 0).length
      }
    }
  }
  const begun = performance.now()
  await Promise.all(Array.from({ length: bundle === 1 ? NUM_TASKS + 1 : 2 }, lane))
  if (done !== TASKS) throw new Error(`${done} of ${TASKS} tasks succeeded`)
  return TASKS / ((performance.now() - begun) / 1_000)
}

async function viaCommand(command, args) {
  const begun = performance.now()
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.end('true\n'.repeat(TASKS))
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`${command} ended with ${code}`)
  return TASKS / ((performance.now() - begun) / 1_000)
}

const hasParallel = spawnSync('parallel', ['--version']).status === 0
const { child, url } = await startRunner()
const ways = {
  [`xargs -P ${NUM_TASKS}`]: () =>
    viaCommand('xargs', ['-P', `${NUM_TASKS}`, '-I{}', 'sh', '-c', '{}']),
  'runner, bundles of 100': () => viaRunner(url, 100),
  'runner, bundles of 1': () => viaRunner(url, 1),
  ...(hasParallel && {
    [`parallel -j ${NUM_TASKS}`]: () => viaCommand('parallel', ['-j', `${NUM_TASKS}`]),
  }),
}
const rates = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, way] of Object.entries(ways)) rates[name].push(await way())
}
const ended = once(child, 'exit')
child.kill('SIGTERM')
await ended
const base = rates[`xargs -P ${NUM_TASKS}`]
const ratio = (own) => median(own.map((rate, round) => rate / base[round])).toFixed(2)
table(
  `\`true\` x ${TASKS}, ${NUM_TASKS} at a time, median of ${ROUNDS} rounds`,
  ['', 'tasks/s', 'of xargs in the same round'],
  Object.entries(rates).map(([name, own]) => [name, Math.round(median(own)), ratio(own)]),
)
if (!hasParallel) console.log('GNU parallel is not installed: not measured')
