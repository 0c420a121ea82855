/** The commands of `manyhost tasks` that need a store alone, run as a child process. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { openStore } from '../../src/tasks/store/open.ts'
import { type ProgramResult, runManyhost, startProgram } from '../cli/help.ts'
import { outcome } from './store/store.suite.ts'

async function filled() {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-tasks-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'tasks.db')
  const store = await openStore(path)
  onTestFinished(() => store.close())
  const server = await store.registerServer()
  const ids = await store.add([
    { args: 'echo "a, b"', tag: { site: 'x' } },
    { args: 'two\nlines', tag: { site: 'y' } },
    { args: 'third' },
  ])
  const [first, second] = await store.claim({ server, limit: 2 })
  if (!first || !second) throw new Error('no claims')
  const outpath = join(folder, 'first.out')
  writeFileSync(outpath, 'what it wrote\n')
  await store.complete([outcome(first, 0, { outpath }), outcome(second, 3)])
  const run = (...args: string[]): Promise<ProgramResult> =>
    runManyhost(['tasks', ...args], { env: { MANYHOST_STORE: path } })
  return { run, store, ids, path, folder, server }
}

it('lists in every form', async () => {
  const { run, ids } = await filled()
  expect((await run('list', 'args', 'exit_status', '-w', 'exit_status != 0')).stdout).toBe(
    'two\ufffdlines\t3\n',
  )
  expect((await run('list', 'args', 'exit_status', '--csv', '-C')).stdout).toBe(
    'args,exit_status\n"echo ""a, b""",0\n"two\nlines",3\n',
  )
  const json = JSON.parse((await run('list', '--json')).stdout)
  expect(json.map((task: { id: string }) => task.id)).toEqual(ids)
  expect(json[0].submit_time).toMatch(/^\d{4}-.*Z$/)
  expect(JSON.parse((await run('list', '--json', '-t', 'site:z')).stdout)).toEqual([])
  expect((await run('list', 'args', 'state', '-f', 'table')).code).toBe(2)
  const table = (await run('list', 'args', 'attempt', '-f', 'table', '-l', '1', '--desc')).stdout
  expect(table).toBe('args   attempt\nthird  1\n')
  expect((await run('list', '-t', 'site', '--count')).stdout).toBe('2\n')
  expect((await run('list', '--remaining', '-l', '5')).stdout).toMatch(/ args: third\n/)
  expect((await run('list', '--tag-keys')).stdout).toBe('site\n')
  expect((await run('list', '--tag-values', 'site')).stdout).toBe('x\ny\n')
}, 180_000)

it('says what a task is, and gives what it wrote', async () => {
  const { run, ids } = await filled()
  const [id = '', second = ''] = ids
  expect((await run('info', second, '-x', 'exit_status')).stdout).toBe('3\n')
  expect(JSON.parse((await run('info', id, '--json')).stdout)).toMatchObject({
    id,
    tag: { site: 'x' },
  })
  expect((await run('info', id, '--yaml')).stdout).toContain('exit_status: 0\n')
  expect((await run('info', id, '--stdout')).stdout).toBe('what it wrote\n')
  expect((await run('info', second, '--stdout')).code).toBe(5)
  const unknown = await run('info', 'nobody')
  expect(unknown).toMatchObject({ code: 5 })
  expect(unknown.stderr).toMatch(/no task nobody/)
}, 180_000)

it('waits for an outcome, through later attempts, and ends with it', async () => {
  const { run, store, ids, path, server } = await filled()
  expect((await run('wait', ids[1] ?? '', '-r', '-s')).code).toBe(3)
  const waiting = startProgram(['tasks', 'wait', ids[2] ?? '', '-s', '--store', path, '-n', '0.05'])
  const [third] = await store.claim({ server })
  if (!third) throw new Error('nothing claimed')
  await store.complete([outcome(third, 0)])
  expect(await waiting.ended).toMatchObject({ code: 0, stdout: '0\n' })
  const [again] = await store.claim({ server, attempts: 2 })
  if (!again) throw new Error('nothing claimed')
  await store.complete([outcome(again, 7)])
  expect((await run('wait', ids[1] ?? '', '-r')).code).toBe(7)
}, 180_000)

it('changes what it is told to, and asks before', async () => {
  const { run, store, ids } = await filled()
  const asked = await run('update', '--cancel', '--remaining')
  expect(asked.code).toBe(2)
  expect(asked.stderr).toMatch(/cancel 1 task\?.*-f/)
  expect((await run('update', '--cancel', '--remaining', '-f')).stdout).toBe('1 of 1\n')
  expect((await store.get(ids[2] ?? '')).exitStatus).toBe(-1)
  expect((await run('update', 'group=4', 'timeout=30s', 'new:1', '-t', 'site:y', '-f')).code).toBe(
    0,
  )
  expect(await store.get(ids[1] ?? '')).toMatchObject({
    group: 4,
    timeout: 30_000,
    tag: { site: 'y', new: 1 },
  })
  expect((await run('update', '--revert', '-F', '-f', '-l', '1')).stdout).toBe('1 of 1\n')
  const last = ['-s', 'args', '--desc', '-l', '1', '-f']
  expect((await run('update', 'cores=3', ...last)).stdout).toBe('1 of 1\n')
  expect((await run('list', 'args', '-w', 'cores == 3')).stdout).toBe('two\ufffdlines\n')
  expect((await run('update', 'cores=4', '-s', 'nothing', '-l', '1', '-f')).stderr).toMatch(
    /no field 'nothing' to sort by/,
  )
  expect((await run('update', '--delete', '-S', '-f')).stdout).toBe('1 of 1\n')
  for (const wrong of [
    [],
    ['--cancel', '--delete'],
    ['exit_status=0'],
    ['group=x'],
    ['nonsense'],
  ]) {
    expect((await run('update', ...wrong, '-f')).code, wrong.join(' ')).toBe(2)
  }
}, 180_000)

it('makes a store, keeps it in order, and never takes a password from the command line', async () => {
  const { run, folder, ids } = await filled()
  const path = join(folder, 'new', 'store.db')
  expect((await run('list', '--store', path)).code).toBe(5)
  expect((await run('initdb', '--store', path)).stdout).toBe(`${path}\n`)
  expect((await run('list', '--count', '--store', path)).stdout).toBe('0\n')
  const copy = join(folder, 'copy.db')
  expect((await run('initdb', '-b', copy, '-r', '-v')).stdout).toMatch(
    /copied.*\n1 tasks moved to partition 1\nvacuumed/,
  )
  expect((await run('list', '-c', '--store', copy)).stdout).toBe('3\n')
  expect((await run('list', '-c')).stdout).toBe('3\n')
  expect((await run('list', '-c', '-i')).stdout).toBe('2\n')
  expect((await run('list', '--tag-values', 'part', '--ignore-partitions')).stdout).toBe('')
  const moved = ids[0] ?? ''
  expect((await run('info', moved, '-x', 'args')).stdout).toBe('echo "a, b"\n')
  expect((await run('info', moved, '-i')).code).toBe(5)
  const elsewhere = await run('info', moved, '-i', '--server', 'http://127.0.0.1:1')
  expect(elsewhere).toMatchObject({ code: 2, stderr: expect.stringMatching(/--ignore-partitions/) })
  expect((await run('initdb', '-t')).code).toBe(2)
  expect((await run('initdb', '-t', '-y')).stdout).toMatch(/3 tasks removed/)
  const told = await run('list', '--store', 'postgres://me:s3cret@h/d')
  expect(told.code).toBe(2)
  expect(told.stderr).not.toContain('s3cret')
}, 180_000)
