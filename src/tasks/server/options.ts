/** Options of task servers and of submissions, parsed once where they are given. docs/tasks.md has their tables; a test compares. */
import type { Registry } from 'prom-client'
import {
  callback,
  flag,
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
import type { OnOutput } from './task-outputs.ts'

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

/** Virtual URL of the runners, unless `url` is given. */
export const RUNNERS_URL = 'http://tasks'

/** Priority of request tasks. Live requests have 0, so they go first. */
export const TASK_PRIORITY = -10

/** How tasks are run. Options that are passed to the runner have the runner's rule. */
const RUN_RULES = {
  /** Makes the command of each task of the source. Tasks that others handed in have a template of their own. */
  template: RUNNER_RULES.template,
  cwd: pathRule,
  shell: shellPathRule,
  env: RUNNER_RULES.env,
  /** Longest time of any attempt, also of a task whose own timeout is longer. */
  taskTimeout: milliseconds(0, 'unlimited'),
  signalWait: milliseconds(10_000, 'at once'),
  /** Stores the output of tasks in files, one for each task and stream. Without it, output is given to `onOutput`. */
  capture: flag(false),
  monitor: flag(false),
}

/** How a source is read, and what its tasks have that their line does not say. */
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
  anyone: flag(false),
  /** PEM files of a certificate and its private key, for TLS. */
  certFile: pathRule,
  certKeyFile: pathRule,
  insecure: flag(false),
}

/** An address for the HTTP API of a task server. */
export type TaskApiOptions = Partial<ParsedOptions<typeof LISTEN_RULES>>

/** The options of `serveFrom`. */
export const SERVE_RULES = {
  ...SOURCE_RULES,
  ...RUN_RULES,
  /** The session whose services run the tasks. @default a session of its own, with runners on this machine */
  session: objectRule<SessionCore>('a session'),
  /** An open store, which stays open, or the path or URL of one. */
  store: rule<Store | string>(
    "a path, ':memory:', a postgres:// URL, or a store",
    undefined,
    (value) =>
      (typeof value === 'string' && value !== '') || (typeof value === 'object' && value !== null)
        ? (value as Store | string)
        : undefined,
  ),
  inMemory: flag(false),
  /** Virtual URL of the runners. */
  url: text('a virtual URL', (value) => URL.canParse(value)),
  /** Token of runners that were not started from here. */
  token: text('16 characters or more', (value) => value.length >= 16),
  /** Most tasks of one claim, of one POST to a runner, and outcomes of one transaction. */
  bundleSize: whole(1, 100),
  /** Longest wait of an outcome for others, to be stored together with them. */
  bundleWait: milliseconds(25, 'at once'),
  maxRetries: whole(0, 0),
  /** Runs failed tasks again before new ones. */
  eager: flag(false),
  /** Writes into the store which runner has which task. */
  confirm: flag(true),
  /** Silence after which a runner or a server is taken for dead and loses its tasks. */
  evictAfter: rule<number>('milliseconds from 1000 up', 30_000, (value) =>
    typeof value === 'number' && value >= 1_000 ? value : undefined,
  ),
  /** Goes on when no task is left. */
  forever: flag(false),
  /** Works off the tasks that earlier runs have left of this folder, and tasks that were handed in there. There is no source then. */
  restart: flag(false),
  /** Most tasks of the source that wait in the store. While there are more, the source is not read. */
  backlog: whole(1, 10_000, { unlimited: true }),
  /** How often it looks for tasks that no event announces: another server gave them back, or a group has ended. */
  poll: milliseconds(1_000),
  /** Priority of request tasks among the requests of their service. */
  priority: rule<number>('a finite number', TASK_PRIORITY, (value) =>
    typeof value === 'number' && Number.isFinite(value) ? value : undefined,
  ),
  /** A file to which the lines of tasks that failed for good are added. */
  redirectFailures: pathRule,
  /** Folder of captured outputs. @default `outputs` beside the store */
  outputs: pathRule,
  onOutput: callback<OnOutput>('a function (task, stream, chunk)'),
  onProblem: listenerRule<[message: string]>('a function of a text', 'onProblem of the tasks'),
  /** Serves the HTTP API at this address. */
  listen: nested<TaskApiOptions>(
    '{ host, port, token, anyone, certFile, certKeyFile, insecure }',
    LISTEN_RULES,
  ),
  signal: objectRule<AbortSignal>('an AbortSignal'),
  registry: objectRule<Registry>('a registry of prom-client'),
}

/** The options of `runCluster`: those of `serveFrom`, and how runners are started. */
export const CLUSTER_RULES = {
  ...SERVE_RULES,
  /** Tasks that each runner runs at a time; 0: as many as its machine has cores. */
  numTasks: RUNNER_RULES.numTasks,
  /** How many runners; with `autoscaling`, at the beginning. */
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
  /** Cores and bytes of memory for all tasks of one runner together. */
  cores: RUNNER_RULES.cores,
  memory: RUNNER_RULES.memory,
  rate: RUNNER_RULES.rate,
  /** Time without work after which runners are ended. They are started again when there is work. */
  clientTimeout: milliseconds(0, 'never'),
  /** Where runners are started. @default the session's provider: processes of this machine */
  provider: objectRule<Provider>('a provider'),
  /** The command of a runner there. @default this Node, with the program of this package */
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
  /** PEM file of the certificate that signed the server's. */
  caFile: pathRule,
  /** Sends the token to another machine also without TLS. */
  insecure: flag(false),
  taskTimeout: rule<number>('milliseconds above 0', undefined, (value) =>
    typeof value === 'number' && value > 0 ? value : undefined,
  ),
  template: RUN_RULES.template,
  cwd: RUN_RULES.cwd,
  shell: RUN_RULES.shell,
  env: RUN_RULES.env,
  /** Most tasks that are handed in together. */
  bundleSize: whole(1, 1_000),
  /** Longest wait of a task for others of its bundle. */
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

/** How `readTasks` is to read the source. */
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
