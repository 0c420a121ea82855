/** What the command line asks for, as options of `runCluster`. */
import { ssh } from '../../../providers/ssh/index.ts'
import type { Provider } from '../../provider.ts'
import { expandNodelist } from '../../tasks/nodelist.ts'
import { parseTags } from '../../tasks/tags.ts'
import type { ClusterRunOptions } from '../../tasks.ts'
import { CliError } from '../exit.ts'
import { exitFor, type StoreFlags, storeOf } from './store.ts'

export interface ServingFlags extends StoreFlags {
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
  readonly initSize?: number
  readonly autoscaling?: string | true
  readonly factor?: number
  readonly period?: number
  readonly minSize?: number
  readonly maxSize?: number
  readonly ssh?: readonly string[]
  readonly remoteExe?: string
  readonly cores?: number
  readonly memory?: number
  readonly group?: number
  readonly tag?: readonly string[]
  readonly fromJson?: boolean
  readonly forever?: boolean
  readonly restart?: boolean
}

/** @throws CliError */
export function optionsOf(flags: ServingFlags): ClusterRunOptions {
  const { autoscaling } = flags
  if (typeof autoscaling === 'string' && autoscaling !== 'fixed' && autoscaling !== 'dynamic') {
    throw new CliError('usage', `--autoscaling is fixed or dynamic, got ${autoscaling}`)
  }
  let tags: ReturnType<typeof parseTags> | undefined
  try {
    tags = flags.tag && parseTags(flags.tag)
  } catch (error) {
    throw exitFor(error)
  }
  return {
    ...(flags.db === false ? { inMemory: true } : { store: storeOf(flags) }),
    kind: flags.fromJson ? 'json' : 'command',
    places: flags.numTasks,
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
    runners: flags.initSize,
    autoscaling: autoscaling === true ? 'dynamic' : (autoscaling as 'fixed' | 'dynamic'),
    factor: flags.factor,
    period: flags.period,
    minSize: flags.minSize,
    maxSize: flags.maxSize,
    taskCores: flags.cores,
    taskMemory: flags.memory,
    group: flags.group,
    tags,
    ...(flags.ssh && far(flags.ssh, flags)),
  }
}

/** Runners on other machines, one on each, unless more are asked for. */
function far(lists: readonly string[], { remoteExe, initSize }: ServingFlags): ClusterRunOptions {
  const hosts = lists.flatMap((one) => expandNodelist(one))
  const provider: Provider = ssh({ hosts })
  return {
    provider,
    runners: initSize ?? hosts.length,
    ...(remoteExe !== undefined && { runner: ['node', remoteExe] }),
  }
}
