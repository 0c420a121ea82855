/** The public door `manyhost/tasks`: batches of tasks through a cluster. Put together here with processes as the provider. */
import { createReadStream } from 'node:fs'
import { processes } from '../providers/process/index.ts'
import { ManyhostError } from './core/errors.ts'
import { SessionCore } from './session/session.ts'
import {
  type ClusterRunOptions,
  parseClusterOptions,
  parseServeOptions,
  type TaskServeOptions,
} from './tasks/server/options.ts'
import { TaskRun } from './tasks/server/task-run.ts'
import { ignoreStreamErrors, type TaskSource } from './tasks/text/source.ts'

function startRun(source: TaskSource | undefined, options: ClusterRunOptions): TaskRun {
  const settings = parseClusterOptions(options)
  if (settings.restart && source !== undefined) {
    const text = 'restart works off what the store has left: give no source'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  return new TaskRun({
    source: ignoreStreamErrors(source),
    settings,
    newSession: () => new SessionCore({ provider: processes() }),
  })
}

/**
 * Runs the tasks of a source to the end, and no other tasks of the store. Without a source, it runs tasks that were submitted to the
 * store. With `restart`, it also runs the tasks that earlier runs of this folder did not finish. `forever` and `listen` add tasks
 * that are submitted meanwhile. Await it for the counts; iterate it for the outcomes. A failed task does not reject it.
 * @throws ManyhostError MANYHOST_INVALID_OPTION; rejects with MANYHOST_INVALID_TASK, MANYHOST_GROUP_FAILED, MANYHOST_STORE_...,
 * and with what the source throws, after all tasks before that have run
 */
export function serveFrom(source: TaskSource | undefined, options: TaskServeOptions = {}): TaskRun {
  parseServeOptions(options)
  return startRun(source, options)
}

/** The lines of a file; see `serveFrom`. */
export function serveFile(path: string, options: TaskServeOptions = {}): TaskRun {
  return serveFrom(createReadStream(path), options)
}

/** Runs all tasks that are submitted, until `drain` or `stop` is called. */
export function serveForever(options: TaskServeOptions = {}): TaskRun {
  parseServeOptions(options)
  return startRun(undefined, { ...options, forever: true })
}

/** Runs a source on runners on this machine. `runners` is their number; `numTasks` is how many tasks each runs at a time. */
export function runCluster(
  source: TaskSource | undefined,
  options: ClusterRunOptions = {},
): TaskRun {
  return startRun(source, options)
}

export { runAgent } from '../providers/agent/index.ts'
export {
  DynamicTasks,
  FixedTasks,
  type ScalingOptions,
  type TaskWorkload,
} from './tasks/model/scaling.ts'
export type { NewTask, Tags, Task, TaskOutcome, TaskRequest } from './tasks/model/task.ts'
export type { ClusterRunOptions, SubmitOptions, TaskServeOptions } from './tasks/server/options.ts'
export type { TaskCounts, TaskResult } from './tasks/server/result.ts'
export { type Submitted, submitFile, submitFrom } from './tasks/server/submit.ts'
export type { OnOutput } from './tasks/server/task-outputs.ts'
export type { Remaining, TaskRun } from './tasks/server/task-run.ts'
export type { UnfinishedTasks } from './tasks/store/batches.ts'
export type { TaskFilter } from './tasks/store/filter.ts'
export { openStore, type StoreOptions } from './tasks/store/open.ts'
export type { Store } from './tasks/store/store.ts'
export {
  type LineKind,
  readTaskFile,
  readTaskStream,
  readTasks,
  type SourceOptions,
  type TaskSource,
} from './tasks/text/source.ts'
