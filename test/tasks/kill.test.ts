/**
 * Server and runners are killed with KILL again and again while thousands of tasks run. MANYHOST_KILL_SECONDS=60 is the long
 * form. Each task has one accepted outcome, none is lost, and what was started twice says so by its fence.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { openStore } from '../../src/tasks.ts'
import { now, sleep } from '../../src/time.ts'
import { until } from '../help.ts'
import { runnersOf } from './runner-help.ts'

const SECONDS = Number(process.env.MANYHOST_KILL_SECONDS ?? 8)
const TASKS = SECONDS >= 60 ? 20_000 : 4_000
const SEED = Number(process.env.MANYHOST_SEED ?? 7)

function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return state / 2 ** 32
  }
}

it('KILL of server and runners at random loses no task, and keeps one outcome of each', {
  timeout: (SECONDS + 240) * 1_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-kill-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const journal = join(folder, 'journal')
  const where = join(folder, 'tasks.db')
  const store = await openStore(where)
  onTestFinished(() => store.close())
  const line = `echo "$TASK_ID $TASK_FENCE" >> ${journal}; sleep 0.00$((TASK_SLOT))`
  for (let i = 0; i < TASKS; i += 1_000) {
    await store.add(Array.from({ length: 1_000 }, () => ({ args: line })))
  }

  const mark = `kill-${process.pid}`
  const start = (): ChildProcess => {
    const args = [resolve('dist/src/cli/main.js'), 'tasks', 'cluster', '--restart', '-N', '4']
    const child = spawn(process.execPath, [...args, '--store', where, '-Y', '1'], {
      stdio: 'ignore',
      env: { ...process.env, MANYHOST_MARK: mark },
    })
    onTestFinished(() => void (child.exitCode === null && child.kill('SIGKILL')))
    return child
  }

  const draw = random(SEED)
  // It works before the first one is killed.
  let server = start()
  await until(async () => (await store.counts()).succeeded > 0)
  const end = now() + SECONDS * 1_000
  const killed = { server: 0, runner: 0 }
  const isEnough = (): boolean => now() >= end && killed.server + killed.runner > 2
  while (!isEnough() && (await store.remaining()) > 0) {
    await sleep(200 + 900 * draw())
    if (server.exitCode !== null) break
    if (draw() < 0.4) {
      server.kill('SIGKILL')
      await once(server, 'exit')
      killed.server++
      server = start()
    } else {
      const pid = runnersOf(`MANYHOST_MARK=${mark}`)[0]
      if (pid === undefined) continue
      process.kill(pid, 'SIGKILL')
      killed.runner++
    }
  }
  if (server.exitCode === null) {
    const [code] = await once(server, 'exit')
    expect(code).toBe(0)
  } else if ((await store.remaining()) > 0) {
    const [code] = await once(start(), 'exit')
    expect(code).toBe(0)
  }

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
    `killed ${killed.server} servers and ${killed.runner} runners; ${TASKS} tasks were started ${runs.length} times (seed ${SEED})`,
  )
  expect(killed.server + killed.runner).toBeGreaterThan(2)
})
