/**
 * Servers, agents and runners are killed with KILL again and again while thousands of tasks run. MANYHOST_KILL_SECONDS=60 is
 * the long form. Each task has one accepted outcome, none is lost, and what was started twice says so by its fence.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { now, sleep } from '../../src/core/time.ts'
import { openStore } from '../../src/tasks.ts'
import { waitUntil } from '../help.ts'
import { seededRandom } from '../random.ts'
import { agentsOf, pidsWith, runnersOf } from './runner-help.ts'

const SECONDS = Number(process.env.MANYHOST_KILL_SECONDS ?? 8)
const TASKS = SECONDS >= 60 ? 20_000 : 4_000
const SEED = Number(process.env.MANYHOST_SEED ?? 7)

/** Every other server has its runners by an agent, which is launched again when it has ended. */
const LAUNCHER = 'while kill -0 $PPID 2>/dev/null; do "$@" >/dev/null 2>&1; sleep 0.1; done'

type Kind = 'server' | 'agent' | 'runner'

it('KILL of servers, agents and runners at random loses no task, and keeps one outcome of each', {
  timeout: (SECONDS + 240) * 1_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-kill-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const journal = join(folder, 'journal')
  const launcher = join(folder, 'launcher.sh')
  writeFileSync(launcher, LAUNCHER)
  const where = join(folder, 'tasks.db')
  const store = await openStore(where)
  onTestFinished(() => store.close())
  const line = `echo "$TASK_ID $TASK_FENCE" >> ${journal}; sleep 0.00$((TASK_SLOT))`
  for (let i = 0; i < TASKS; i += 1_000) {
    await store.add(Array.from({ length: 1_000 }, () => ({ args: line })))
  }

  const name = `kill-${process.pid}`
  const mark = `MANYHOST_MARK=${name}`
  onTestFinished(() => pidsWith(mark).forEach(kill))
  let servers = 0
  const start = (): ChildProcess => {
    const args = [resolve('dist/src/cli/main.js'), 'tasks', 'cluster', '--restart', '-N', '4']
    if (++servers % 2 === 0) args.push('--launcher', `sh ${launcher}`, '--hub-timeout', '10')
    return spawn(process.execPath, [...args, '--store', where, '-Y', '1'], {
      stdio: 'ignore',
      env: { ...process.env, MANYHOST_MARK: name },
    })
  }
  const isWorking = async (): Promise<void> => {
    const { succeeded } = await store.counts()
    await waitUntil(async () => {
      const counts = await store.counts()
      return counts.succeeded > succeeded || counts.succeeded === TASKS
    })
  }

  const draw = seededRandom(SEED)
  const killed: Record<Kind, number> = { server: 0, agent: 0, runner: 0 }
  // One of each at least; the second server has an agent.
  const first: Kind[] = ['runner', 'server', 'agent']
  const next = (): Kind => first[0] ?? (draw() < 0.4 ? 'server' : draw() < 0.5 ? 'agent' : 'runner')
  let server = start()
  await isWorking()
  const end = now() + SECONDS * 1_000
  while ((first.length > 0 || now() < end) && (await store.remaining()) > 0) {
    await sleep(100 + 600 * draw())
    if (server.exitCode !== null) break
    const kind = next()
    const pidsOf = { server: () => [server.pid as number], agent: agentsOf, runner: runnersOf }
    const pids = pidsOf[kind](mark)
    const pid = pids[Math.floor(draw() * pids.length)]
    if (pid === undefined) continue
    kill(pid)
    killed[kind]++
    first.shift()
    if (kind !== 'server') continue
    await waitUntil(() => server.signalCode !== null || server.exitCode !== null)
    if (server.exitCode !== null) break
    server = start()
    await isWorking()
  }
  if (server.exitCode === null) await once(server, 'exit')
  expect(server.exitCode).toBe(0)

  const counts = await store.counts()
  expect(counts).toMatchObject({ total: TASKS, succeeded: TASKS })
  const runs = readFileSync(journal, 'utf8').trim().split('\n')
  expect(new Set(runs).size, 'no claim was started twice').toBe(runs.length)
  const started = new Map<string, number>()
  for (const run of runs) {
    const [id = '', fence] = run.split(' ')
    started.set(id, Math.max(started.get(id) ?? 0, Number(fence)))
  }
  expect(started.size, 'each was run').toBe(TASKS)
  for await (const task of store.list()) {
    expect(task.fence, task.id).toBe(started.get(task.id))
  }
  console.log(
    `killed ${killed.server} servers, ${killed.agent} agents, ${killed.runner} runners; ${TASKS} tasks were started ${runs.length} times (seed ${SEED})`,
  )
  for (const [kind, times] of Object.entries(killed)) expect(times, kind).toBeGreaterThan(0)
})

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}
