/** What the command line and its files say arrives as an option of `runCluster`; its letters are the ancestor's, and so are its ends. */
import { Option } from 'commander'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { toExitStatus } from '../../../src/cli/exit.ts'
import { mergeSettings } from '../../../src/cli/settings/files.ts'
import { SETTINGS_KEYS } from '../../../src/cli/settings/keys.ts'
import { RUN_OPTIONS } from '../../../src/cli/tasks/options.ts'
import { toClusterRunOptions } from '../../../src/cli/tasks/run-options.ts'
import { openSshProvider } from '../../../src/cli/tasks/ssh.ts'
import type { ClusterRunOptions } from '../../../src/tasks.ts'

/** As a file says it, and what comes of it. */
const SAID: Readonly<Record<string, readonly [said: unknown, comes: ClusterRunOptions]>> = {
  store: ['a.db', { store: 'a.db' }],
  db: [false, { inMemory: true, store: undefined }],
  numTasks: [3, { numTasks: 3 }],
  template: ['go {}', { template: 'go {}' }],
  bundlesize: [7, { bundleSize: 7 }],
  bundlewait: ['2', { bundleWait: 2_000 }],
  maxRetries: [2, { maxRetries: 2 }],
  eager: [true, { eager: true }],
  confirm: [false, { confirm: false }],
  evictAfter: ['20', { evictAfter: 20_000 }],
  capture: [true, { capture: true }],
  monitor: [true, { monitor: true }],
  failures: ['failed.txt', { redirectFailures: 'failed.txt' }],
  maxCores: [5, { cores: 5 }],
  maxMemory: ['2K', { memory: 2_048 }],
  timeout: ['30', { clientTimeout: 30_000 }],
  taskTimeout: ['40', { taskTimeout: 40_000 }],
  signalwait: ['3', { signalWait: 3_000 }],
  ratelimit: [2.5, { rate: 2.5 }],
  delayStart: [-60, { delayStart: -60_000 }],
  poll: ['250ms', { poll: 250 }],
  initSize: [4, { runners: 4 }],
  autoscaling: ['fixed', { autoscaling: 'fixed' }],
  factor: [0.5, { factor: 0.5 }],
  period: ['5', { period: 5_000 }],
  minSize: [1, { minSize: 1 }],
  maxSize: [9, { maxSize: 9 }],
  remoteExe: ['/opt/main.js', { runner: ['node', '/opt/main.js'] }],
  env: [true, { env: { COLOUR: 'red', OLD: 'too' } }],
  cores: [2, { taskCores: 2 }],
  memory: ['1K', { taskMemory: 1_024 }],
  group: [6, { group: 6 }],
  tag: [['site:x', 'run:7'], { tags: { site: 'x', run: 7 } }],
  fromJson: [true, { kind: 'json' }],
  requests: [true, { kind: 'request' }],
}

/** Where tasks run, and where what is said of them goes, is no option of `runCluster`. */
const ELSEWHERE =
  'output errors print logFile logLevel logSize logEvery logKeep fleet feed ssh sshArgs sshGroup provider launcher mpi bind hubTimeout tlsCert tlsKey insecure'

const GROUND = { options: { runners: 2 }, close: async () => {} }

function arrives(said: Readonly<Record<string, unknown>>): ClusterRunOptions {
  const flags = mergeSettings('cluster', [{ scope: 'user', sections: { cluster: said } }], {})
  return toClusterRunOptions(Object.fromEntries(flags), GROUND)
}

describe('what is said', () => {
  it.each(Object.entries(SAID))('of %s arrives, and nothing else', (name, [said, comes]) => {
    vi.stubEnv('MANYHOST_EXPORT_COLOUR', 'red')
    vi.stubEnv('HYPERSHELL_EXPORT_OLD', 'too')
    onTestFinished(() => void vi.unstubAllEnvs())
    const { store, ...initial } = arrives({})
    expect(arrives({ [name]: said })).toEqual({ store, ...initial, ...comes })
    expect(initial).not.toMatchObject(comes)
  })

  it('is all that can be said', () => {
    expect([...Object.keys(SAID), ...ELSEWHERE.split(' ')].toSorted()).toEqual(
      [...(SETTINGS_KEYS.get('cluster')?.keys() ?? [])].toSorted(),
    )
  })

  it('of -A without a mode is dynamic', () => {
    expect(arrives({ autoscaling: true })).toMatchObject({ autoscaling: 'dynamic' })
  })

  it("has the ancestor's letters", () => {
    const letters = RUN_OPTIONS.map(({ flags }) => new Option(flags))
      .filter(({ short }) => short)
      .map((option) => `${option.short} ${option.attributeName()}`)
    expect(letters.toSorted()).toEqual(
      [
        ...['-A autoscaling', '-C maxCores', '-E env', '-F factor', '-I initSize', '-M maxMemory'],
        ...['-N numTasks', '-P period', '-Q poll', '-R ratelimit', '-S signalwait', '-T timeout'],
        ...['-W taskTimeout', '-X minSize', '-Y maxSize', '-b bundlesize', '-c cores'],
        ...['-d delayStart', '-e errors', '-f failures', '-g group', '-m memory', '-o output'],
        ...['-r maxRetries', '-t template', '-w bundlewait'],
      ].toSorted(),
    )
  })
})

it.each([
  [0, 0],
  [255, 255],
  [256, 1],
  [404, 1],
  [-1, 1],
  [-3, 1],
])('a task with exit status %i ends `run` and `wait -r` with %i', (status, code) => {
  expect(toExitStatus(status)).toBe(code)
})

it('--ssh has a runner on each machine of its lists', () => {
  expect(openSshProvider(['a[01-03],b', 'c'], {}).options).toMatchObject({ runners: 5 })
  expect(openSshProvider(['a'], { sshArgs: '-p 2222' }).options).toMatchObject({ runners: 1 })
})
