/** The runner as a program: its environment, its signals, its death; and as an instance of a service. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Session } from '../../../src/index.ts'
import { formatBundleLines, readRunnerMessages } from '../../../src/tasks/runner/protocol.ts'
import { waitForReady, waitUntil } from '../../help.ts'
import { clientOf, collect, pidsWith, TOKEN, taskOf } from '../runner-help.ts'

/** Built by `npm test` before the tests; the program that users get. */
const program = resolve('dist/src/tasks/runner/main.js')

async function launch(args: readonly string[] = [], env = {}) {
  const child = spawn(process.execPath, [program, ...args], {
    env: { ...process.env, MANYHOST_RUNNER_TOKEN: TOKEN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let output = ''
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  await waitUntil(() => output.includes('\n') || child.exitCode !== null)
  const url = `http://${/listens on (\S+),/.exec(output)?.[1]}`
  return { child, url, output: () => output, ...clientOf(url) }
}

async function exitOf(child: ChildProcess): Promise<number | NodeJS.Signals | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  return child.exitCode ?? child.signalCode
}

const folder = () => mkdtempSync(join(tmpdir(), 'manyhost-runner-test-'))

test('kill -9 of a runner leaves nothing of its tasks, not even who left the group', async () => {
  const { child, start } = await launch(['-N', '2'])
  const mark = `orphan-${child.pid}`
  const tasks = ['sleep 300', 'setsid sleep 300 & sleep 300'].map((args, n) =>
    taskOf({ args, id: `${mark}-${n}` }),
  )
  const answer = collect(await start(tasks), tasks).catch(() => 'cut')
  await waitUntil(() => pidsWith(`TASK_ID=${mark}`).length >= 3)
  child.kill('SIGKILL')
  expect(await answer).toBe('cut')
  await waitUntil(() => pidsWith(`TASK_ID=${mark}`).length === 0)
})

test('USR1 drains: what runs ends in its time, the program ends well and leaves no folder', async () => {
  const { child, start } = await launch()
  const go = join(folder(), 'go')
  const tasks = [taskOf(`until test -e ${go}; do sleep 0.02; done; echo done`), taskOf('true', 1)]
  const answer = collect(await start(tasks), tasks)
  await waitUntil(() => pidsWith('TASK_ID=t0').length > 0)
  child.kill('SIGUSR1')
  writeFileSync(go, '')
  const { outcomes, stdout } = await answer
  expect(outcomes.get('t0')?.exitStatus).toBe(0)
  expect(stdout.get('t0')).toBe('done\n')
  expect(await exitOf(child)).toBe(0)
})

test.each(['SIGUSR2', 'SIGTERM'] as const)(
  '%s interrupts what runs and answers first',
  async (signal) => {
    const { child, start } = await launch(['--signalwait', '0.1'])
    const tasks = [
      taskOf({ args: "trap '' INT; sleep 300; sleep 300", id: `stopped-${child.pid}` }),
    ]
    const answer = collect(await start(tasks), tasks)
    await waitUntil(() => pidsWith(`TASK_ID=stopped-${child.pid}`).length > 0)
    child.kill(signal)
    const { outcomes } = await answer
    expect([...outcomes.values()][0]).toMatchObject({ interrupted: 'stopped' })
    expect(await exitOf(child)).toBe(0)
    await waitUntil(() => pidsWith(`TASK_ID=stopped-${child.pid}`).length === 0)
  },
)

test.each([
  ['3600', 'SIGUSR1'],
  ['-3600', 'SIGTERM'],
] as const)('a start that is delayed by %s s is given up at %s', async (delay, signal) => {
  const { child, output } = await launch([`--delay-start=${delay}`])
  const wait = Number(/^manyhost runner begins in (\S+) s\n$/.exec(output())?.[1])
  // A negative one is the most that may be drawn.
  if (Number(delay) > 0) expect(wait).toBe(3_600)
  else expect(wait > 0 && wait < 3_600, output()).toBe(true)
  child.kill(signal)
  expect(await exitOf(child)).toBe(0)
  expect(output()).not.toMatch(/listens/)
})

test('a runner listens after its delay', async () => {
  const { output, child } = await launch(['--delay-start', '0.2'])
  expect(output()).toMatch(/begins in 0\.2 s/)
  await waitUntil(() => /listens on/.test(output()))
  child.kill('SIGUSR1')
  expect(await exitOf(child)).toBe(0)
})

test('a client timeout ends an idle runner', async () => {
  const { child, run } = await launch(['--client-timeout', '4'])
  const { outcomes } = await run(['true'])
  expect(outcomes.get('t0')?.exitStatus).toBe(0)
  expect(await exitOf(child)).toBe(0)
})

test.each([
  [['--num-tasks', 'many'], {}, /numTasks must be/],
  [['--nonsense'], {}, /nonsense/],
  [['--memory', 'lots'], {}, /a size must be/],
  [['--cores', '0'], {}, /cores must be/],
  [['--ratelimit', '0'], {}, /rate must be/],
  [['--bundlesize', '0'], {}, /bundleSize must be/],
  [['--delay-start', 'soon'], {}, /--delay-start must be a number of seconds, got "soon"/],
  [[], { MANYHOST_RUNNER_TOKEN: 'short' }, /MANYHOST_RUNNER_TOKEN must have 16/],
  [['-t', '{= 1 + =}'], {}, /template/],
] as const)('wrong options end it with 2: %j', async (args, env, message) => {
  const { child, output } = await launch(args, env)
  expect(await exitOf(child)).toBe(2)
  expect(output()).toMatch(message)
})

test('as an instance of a service, beside others, through the queue of its cluster', async () => {
  const session = new Session()
  onTestFinished(() => session.close({ force: true }))
  session.startup({
    url: 'http://runners',
    command: [process.execPath, program, '--num-tasks', '2'],
    env: { MANYHOST_RUNNER_TOKEN: TOKEN },
    initSize: 2,
    concurrency: 2,
    ready: '/health',
  })
  const client = session.client()
  // One that is up first could be done with all before the other is.
  await waitForReady(session, 'http://runners', 2)
  const bundles = Array.from({ length: 6 }, async (_, bundle) => {
    const tasks = Array.from({ length: 10 }, (_, n) =>
      taskOf({ args: `echo ${bundle}-${n}`, id: `s${bundle}-${n}` }),
    )
    const answer = await client.post('http://runners/tasks', {
      headers: { authorization: `Bearer ${TOKEN}` },
      body: [...formatBundleLines({}, tasks)].join(''),
    })
    expect(answer.status).toBe(200)
    const { outcomes, stdout } = await collect(readRunnerMessages(answer.body as never), tasks)
    expect(stdout.get(`s${bundle}-7`)).toBe(`${bundle}-7\n`)
    return [...outcomes.values()]
  })
  const outcomes = (await Promise.all(bundles)).flat()
  expect(outcomes).toHaveLength(60)
  expect(outcomes.every(({ exitStatus }) => exitStatus === 0)).toBe(true)
  expect(new Set(outcomes.map(({ clientId }) => clientId)).size).toBeGreaterThan(1)
})
