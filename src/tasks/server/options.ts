/** Options of a task server, checked once, where they are given. */
import type { Registry } from 'prom-client'
import {
  callback,
  milliseconds,
  nested,
  type ParsedOptions,
  parseOptions,
  rule,
  text,
  whole,
} from '../../core/options.ts'
import type { Provider } from '../../core/provider.ts'
import { listenerRule } from '../../core/user-functions.ts'
import type { SessionCore } from '../../session/session.ts'
import { SCALING_RULES } from '../model/scaling.ts'
import type { Tags } from '../model/task.ts'
import { RUNNER_RULES } from '../runner/options.ts'
import type { Store } from '../store/store.ts'
import type { LineKind, SourceOptions } from '../text/source.ts'
import type { TaskApiOptions } from './task-api-server.ts'
import type { OnOutput } from './task-outputs.ts'

function flagRule(initial: boolean) {
  return rule('a boolean', initial, (value) => (typeof value === 'boolean' ? value : undefined), {
    is: 'flag',
  })
}

function objectRule<T extends object>(what: string) {
  return rule<T>(what, undefined, (value) =>
    typeof value === 'object' && value !== null ? (value as T) : undefined,
  )
}

const shellPathRule = text(
  'an absolute path',
  (value) => value.startsWith('/') && !value.includes('\0'),
)

const pathRule = text('a path', (value) => value !== '' && !value.includes('\0'))

/** Where runners live unless somebody says otherwise. */
export const RUNNERS_URL = 'http://tasks'

/** Live requests have 0: they come first. */
export const TASK_PRIORITY = -10

/** How tasks are run; what of it belongs to the runner has the runner's own range. */
const RUN_RULES = {
  /** What is stored with each task of the source; a task that was stored by somebody else has its own. */
  template: RUNNER_RULES.template,
  cwd: pathRule,
  shell: shellPathRule,
  env: RUNNER_RULES.env,
  /** No attempt runs longer, whatever the task says. */
  taskTimeout: milliseconds(0, 'unlimited'),
  signalWait: milliseconds(10_000, 'at once'),
  /** Keeps what tasks write, in files by task; else it is given to `onOutput`. */
  capture: flagRule(false),
  monitor: flagRule(false),
}

/** What the tasks of a source have where they say nothing themselves. */
const SOURCE_RULES = {
  kind: rule<LineKind>("'command', 'json', 'request'", 'command', (value) =>
    value === 'command' || value === 'json' || value === 'request' ? value : undefined,
  ),
  taskCores: rule<number>('a number above 0', undefined, (value) =>
    typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : undefined,
  ),
  taskMemory: rule<number>('bytes above 0', undefined, (value) =>
    typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : undefined,
  ),
  group: rule<number>('a whole number', undefined, (value) =>
    Number.isSafeInteger(value) ? (value as number) : undefined,
  ),
  tags: objectRule<Tags>('an object of tags'),
  /** What becomes of a line that is no task: `stop`, or a function that is told. */
  onBad: rule<NonNullable<SourceOptions['onBad']>>("'stop' or a function", 'stop', (value) =>
    value === 'stop' || typeof value === 'function'
      ? (value as NonNullable<SourceOptions['onBad']>)
      : undefined,
  ),
}

export const LISTEN_RULES = {
  host: text('an address', (value) => value !== ''),
  port: rule<number>('a port from 0 to 65535', 0, (value) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) < 65_536
      ? (value as number)
      : undefined,
  ),
  token: text('16 characters or more', (value) => value.length >= 16),
  anyone: flagRule(false),
  /** PEM files of a certificate and its private key: it speaks TLS then. */
  certFile: pathRule,
  certKeyFile: pathRule,
  insecure: flagRule(false),
}

/** Every option of `serveFrom`. docs/tasks.md has the table, held against this one by a test. */
export const SERVE_RULES = {
  ...SOURCE_RULES,
  ...RUN_RULES,
  /** The session whose services run the tasks. @default one of its own, with runners on this machine */
  session: objectRule<SessionCore>('a session'),
  /** A store, or where one is; it is closed by who opened it. */
  store: rule<Store | string>(
    "a path, ':memory:', a postgres:// URL, or a store",
    undefined,
    (value) =>
      (typeof value === 'string' && value !== '') || (typeof value === 'object' && value !== null)
        ? (value as Store | string)
        : undefined,
  ),
  inMemory: flagRule(false),
  /** Virtual URL of the runners. */
  url: text('a virtual URL', (value) => URL.canParse(value)),
  /** What runners want as their token, where they were not started from here. */
  token: text('16 characters or more', (value) => value.length >= 16),
  /** Tasks of one claim, and of one POST, at most. */
  bundleSize: whole(1, 100),
  /** Outcomes are kept at `bundleSize`, after so long, or when nothing else runs. */
  bundleWait: milliseconds(25, 'at once'),
  maxRetries: whole(0, 0),
  /** Failed tasks before new ones. */
  eager: flagRule(false),
  /** Notes in the store which runner took which task. */
  confirm: flagRule(true),
  /** A silent runner, and a silent server, have lost their tasks after so long. */
  evictAfter: rule<number>('milliseconds from 1000 up', 30_000, (value) =>
    typeof value === 'number' && value >= 1_000 ? value : undefined,
  ),
  /** Goes on when nothing is left. */
  forever: flagRule(false),
  /** Works off what earlier runs have left of this folder, and what was handed in there; there is no source. */
  restart: flagRule(false),
  /** Tasks of the source that may wait in the store; it is read no further until there are fewer. */
  backlog: whole(1, 10_000, { unlimited: true }),
  /** Looks for what no event told of: tasks that another server gave back, outcomes that end a group. */
  poll: milliseconds(1_000),
  /** Of a request; a task's own timeout may be shorter. */
  priority: rule<number>('a finite number', TASK_PRIORITY, (value) =>
    typeof value === 'number' && Number.isFinite(value) ? value : undefined,
  ),
  /** A file that the lines of tasks that failed for good are added to. */
  redirectFailures: pathRule,
  /** Where captured outputs are kept. @default `outputs` beside the store */
  outputs: pathRule,
  onOutput: callback<OnOutput>('a function (task, stream, chunk)'),
  onProblem: listenerRule<[message: string]>('a function of a text', 'onProblem of the tasks'),
  /** Takes tasks over HTTP, and answers for them. */
  listen: nested<TaskApiOptions>(
    '{ host, port, token, anyone, certFile, certKeyFile, insecure }',
    LISTEN_RULES,
  ),
  signal: objectRule<AbortSignal>('an AbortSignal'),
  registry: objectRule<Registry>('a registry of prom-client'),
}

/** What `runCluster` has beside. */
export const CLUSTER_RULES = {
  ...SERVE_RULES,
  /** Tasks at a time in each runner; 0: the cores of its machine. */
  numTasks: RUNNER_RULES.numTasks,
  /** Runners; with `autoscaling` at the beginning. */
  runners: whole(1, 1),
  autoscaling: rule<'fixed' | 'dynamic'>("'fixed', 'dynamic'", undefined, (value) =>
    value === 'fixed' || value === 'dynamic' ? value : undefined,
  ),
  factor: SCALING_RULES.factor,
  period: SCALING_RULES.period,
  minSize: SCALING_RULES.minSize,
  maxSize: rule<number>('a whole number from 1 up', undefined, (value) =>
    Number.isSafeInteger(value) && (value as number) >= 1 ? (value as number) : undefined,
  ),
  /** Cores and bytes for all tasks of one runner together. */
  cores: RUNNER_RULES.cores,
  memory: RUNNER_RULES.memory,
  rate: RUNNER_RULES.rate,
  /** Runners that had nothing to do for so long are ended, until there is something again. */
  clientTimeout: milliseconds(0, 'never'),
  /** Where the session's own runners are started. @default processes of this machine */
  provider: objectRule<Provider>('a provider'),
  /** What starts a runner there. @default this Node, with the program of this package */
  runner: rule<readonly string[]>('a non-empty array of strings', undefined, (value) =>
    Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string')
      ? value
      : undefined,
  ),
  delayStart: rule<number>('milliseconds; negative: drawn from 0 to so many', 0, (value) =>
    typeof value === 'number' && Number.isFinite(value) ? value : undefined,
  ),
}

type Optional<T> = { [Name in keyof T]?: T[Name] | undefined }

export type TaskServeSettings = ParsedOptions<typeof SERVE_RULES>
export type TaskServeOptions = Optional<TaskServeSettings>
export type ClusterRunSettings = ParsedOptions<typeof CLUSTER_RULES>
export type ClusterRunOptions = Optional<ClusterRunSettings>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseServeOptions(options: TaskServeOptions): TaskServeSettings {
  return parseOptions('serveFrom', options, SERVE_RULES)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseClusterOptions(options: ClusterRunOptions): ClusterRunSettings {
  return parseOptions('runCluster', options, CLUSTER_RULES)
}

export const SUBMIT_RULES = {
  ...SOURCE_RULES,
  store: SERVE_RULES.store,
  /** Address of a server that listens, such as `http://127.0.0.1:50001`. */
  server: text('an http:// or https:// address', (value) => /^https?:\/\//.test(value)),
  token: SERVE_RULES.token,
  /** PEM file of who signed the server's certificate. */
  caFile: pathRule,
  /** Sends the token to another machine without TLS. */
  insecure: flagRule(false),
  taskTimeout: rule<number>('milliseconds above 0', undefined, (value) =>
    typeof value === 'number' && value > 0 ? value : undefined,
  ),
  template: RUN_RULES.template,
  cwd: RUN_RULES.cwd,
  shell: RUN_RULES.shell,
  env: RUN_RULES.env,
  /** Tasks that are handed in together. */
  bundleSize: whole(1, 1_000),
  /** What is fewer than a bundle is handed in after so long. */
  bundleWait: milliseconds(0, 'at once'),
  submitId: text('an id', (value) => /^[\w-]{1,100}$/.test(value)),
  signal: SERVE_RULES.signal,
}

export type SubmitSettings = ParsedOptions<typeof SUBMIT_RULES>
export type SubmitOptions = Optional<SubmitSettings>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSubmitOptions(options: SubmitOptions): SubmitSettings {
  return parseOptions('submitFrom', options, SUBMIT_RULES)
}

/** What a source's tasks have where they say nothing. */
export function sourceOptions(
  settings: Pick<
    SubmitSettings,
    'kind' | 'taskCores' | 'taskMemory' | 'group' | 'tags' | 'onBad'
  > & { taskTimeout?: number | undefined },
): SourceOptions {
  const { kind, taskCores, taskMemory, group, tags, onBad, taskTimeout } = settings
  return {
    kind,
    onBad,
    defaults: {
      ...(taskCores !== undefined && { cores: taskCores }),
      ...(taskMemory !== undefined && { memory: taskMemory }),
      ...(taskTimeout !== undefined && taskTimeout > 0 && { timeout: taskTimeout }),
      ...(group !== undefined && { group }),
      ...(tags !== undefined && { tag: tags }),
    },
  }
}
