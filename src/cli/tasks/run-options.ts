/** Turns the flags of a command into options of `runCluster`. */
import { parseTags } from '../../tasks/text/tags.ts'
import type { ClusterRunOptions, LineKind } from '../../tasks.ts'
import { CliError } from '../exit.ts'
import { chooseStore, type StoreFlags, toTaskCliError } from './store.ts'
import type { TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'
import type { TaskLogFlags } from './task-log.ts'

export interface TaskServingFlags extends StoreFlags, TaskEnvironmentFlags, TaskLogFlags {
  readonly db?: boolean
  readonly numTasks?: number
  readonly template?: string
  readonly bundlesize?: number
  readonly bundlewait?: number
  readonly maxRetries?: number
  readonly eager?: boolean
  readonly confirm?: boolean
  readonly evictAfter?: number
  readonly capture?: boolean
  readonly monitor?: boolean
  readonly output?: string
  readonly errors?: string
  readonly failures?: string
  readonly print?: boolean
  readonly maxCores?: number
  readonly maxMemory?: number
  readonly timeout?: number
  readonly taskTimeout?: number
  readonly signalwait?: number
  readonly ratelimit?: number
  readonly delayStart?: number
  readonly poll?: number
  readonly factor?: number
  readonly period?: number
  readonly minSize?: number
  readonly maxSize?: number
  readonly remoteExe?: string
  readonly cores?: number
  readonly memory?: number
  readonly group?: number
  readonly tag?: readonly string[]
  readonly fromJson?: boolean
  readonly requests?: boolean
  readonly env?: boolean
  readonly forever?: boolean
  readonly restart?: boolean
}

/** @throws CliError */
export function toClusterRunOptions(
  flags: TaskServingFlags,
  environment: TaskEnvironment,
): ClusterRunOptions {
  const { autoscaling } = flags
  if (typeof autoscaling === 'string' && autoscaling !== 'fixed' && autoscaling !== 'dynamic') {
    throw new CliError('usage', `--autoscaling: expected fixed or dynamic, got ${autoscaling}`)
  }
  let tags: ReturnType<typeof parseTags> | undefined
  try {
    tags = flags.tag && parseTags(flags.tag)
  } catch (error) {
    throw toTaskCliError(error)
  }
  return {
    ...(flags.db === false ? { inMemory: true } : { store: chooseStore(flags) }),
    kind: chooseLineKind(flags),
    numTasks: flags.numTasks,
    template: flags.template,
    bundleSize: flags.bundlesize,
    bundleWait: flags.bundlewait,
    maxRetries: flags.maxRetries,
    eager: flags.eager,
    confirm: flags.confirm,
    evictAfter: flags.evictAfter,
    capture: flags.capture,
    monitor: flags.monitor,
    redirectFailures: flags.failures,
    cores: flags.maxCores,
    memory: flags.maxMemory,
    clientTimeout: flags.timeout,
    taskTimeout: flags.taskTimeout,
    signalWait: flags.signalwait,
    rate: flags.ratelimit,
    delayStart: flags.delayStart,
    poll: flags.poll,
    autoscaling: autoscaling === true ? 'dynamic' : (autoscaling as 'fixed' | 'dynamic'),
    factor: flags.factor,
    period: flags.period,
    minSize: flags.minSize,
    maxSize: flags.maxSize,
    taskCores: flags.cores,
    taskMemory: flags.memory,
    group: flags.group,
    tags,
    ...(flags.env && { env: exportedVariables(process.env) }),
    ...environment.options,
    runners: flags.initSize ?? environment.options.runners,
    ...(flags.remoteExe !== undefined && { runner: ['node', flags.remoteExe] }),
  }
}

/** @throws CliError */
export function chooseLineKind(flags: { fromJson?: boolean; requests?: boolean }): LineKind {
  if (flags.fromJson && flags.requests) {
    throw new CliError('usage', 'give --from-json or --requests, not both: a line cannot be both')
  }
  return flags.fromJson ? 'json' : flags.requests ? 'request' : 'command'
}

/** The variables `MANYHOST_EXPORT_NAME` and `HYPERSHELL_EXPORT_NAME` of an environment, as `NAME`. */
export function exportedVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const found = Object.entries(env).flatMap(([name, value = '']) => {
    const short = /^(?:MANYHOST|HYPERSHELL)_EXPORT_(\w+)$/.exec(name)?.[1]
    return short === undefined ? [] : [[short, value] as const]
  })
  return Object.fromEntries(found)
}
