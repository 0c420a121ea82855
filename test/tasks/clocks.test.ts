/** Two real servers on one store, in processes whose clocks are an hour apart. */
import { spawn } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import {
  createServerId,
  isServerProcessAlive,
  isServerProcessDead,
} from '../../src/tasks/server/task-server-lease.ts'
import { openStore } from '../../src/tasks.ts'
import { startProgram } from '../cli/help.ts'
import { waitUntil } from '../help.ts'

const AHEAD = `const real = Date.now
Date.now = () => real() + 3_600_000
`

it('servers whose clocks are an hour apart leave each other alone, lease after lease', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-clocks-'))
  const ahead = join(folder, 'ahead.mjs')
  writeFileSync(ahead, AHEAD)
  const where = join(folder, 'tasks.db')
  const store = await openStore(where)
  onTestFinished(() => store.close())
  const serve = (env = {}) =>
    startProgram(['tasks', 'server', '--store', where, '-p', '0', '--evict-after', '1'], {
      env: { XDG_DATA_HOME: folder, ...env },
    })
  const programs = [serve(), serve({ NODE_OPTIONS: `--import=${ahead}` })]
  const beats = new Map<string, Set<number>>()
  const isSeen = async (times: number): Promise<boolean> => {
    for (const { id, heartbeatAt } of await store.servers()) {
      beats.set(id, (beats.get(id) ?? new Set()).add(heartbeatAt))
    }
    return beats.size >= 2 && [...beats.values()].every((seen) => seen.size >= times)
  }
  // Each beats four times a lease.
  await waitUntil(() => isSeen(16))
  expect(beats.size).toBe(2)
  const clocks = (await store.servers()).map(({ heartbeatAt }) => heartbeatAt)
  expect(Math.max(...clocks) - Math.min(...clocks)).toBeGreaterThan(3_500_000)
  for (const program of programs) program.process.kill('SIGTERM')
  for (const { stderr } of await Promise.all(programs.map(({ ended }) => ended))) {
    expect(stderr).not.toMatch(/took this one for dead/)
  }
  expect(await store.statement('SELECT id FROM server WHERE evicted = 1')).toEqual([])
})

it('a process of this machine is known to live, to be gone, or to stand still', async () => {
  if (process.platform !== 'linux') return console.warn('SKIPPED: no /proc to know processes by')
  const child = spawn('sleep', ['600'])
  onTestFinished(() => void child.kill('SIGKILL'))
  const id = createServerId(child.pid)
  expect([isServerProcessAlive(id), isServerProcessDead(id)]).toEqual([true, false])
  child.kill('SIGSTOP')
  await waitUntil(() => !isServerProcessAlive(id))
  expect(isServerProcessDead(id)).toBe(false)
  child.kill('SIGCONT')
  await waitUntil(() => isServerProcessAlive(id))
  child.kill('SIGKILL')
  await waitUntil(() => isServerProcessDead(id))
  expect(isServerProcessAlive(id)).toBe(false)
  // A server of another machine, or of none, may be either; so may one of this process that nobody knows.
  for (const other of ['0123456789abcdef', 'a.another-machine.1.1', createServerId()]) {
    expect(isServerProcessAlive(other)).toBe(false)
  }
})
