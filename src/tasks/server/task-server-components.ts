/** The components of a task server, put together. They answer, or report to the server by its interfaces; the server acts. */
import type { Client } from '../../client/client.ts'
import type { SessionCore } from '../../session/session.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import { createBundleOptions } from './bundle-options.ts'
import { Cancellations } from './cancellations.ts'
import { ClaimedTasks } from './claimed-tasks.ts'
import type { TaskSink } from './executor.ts'
import type { ClusterRunSettings } from './options.ts'
import { type OutcomeSink, OutcomeWriter } from './outcome-writer.ts'
import { ProblemReporter } from './problem-reporter.ts'
import { TaskReaper } from './reaper.ts'
import { defaultOutputsFolder, type TaskResult } from './result.ts'
import { ResultReporter } from './result-reporter.ts'
import { RunnerLoads } from './runner-loads.ts'
import type { RunnerService } from './runner-service.ts'
import { ShellExecutor } from './shell-executor.ts'
import { TaskClaimer } from './task-claimer.ts'
import { TaskOutputs } from './task-outputs.ts'
import { TaskRouter } from './task-router.ts'
import { type LeaseOwner, TaskServerLease } from './task-server-lease.ts'

export interface TaskServerParts {
  readonly session: SessionCore
  readonly store: Store
  readonly settings: ClusterRunSettings
  /** The batch that it works off. If it is open, also the tasks that were handed in for any server. */
  readonly serving: ServedTasks
  readonly runnerService: RunnerService
  /** Takes results. Nothing more is claimed while its promise is pending. */
  onResults(results: readonly TaskResult[]): Promise<void>
}

export interface TaskServerComponents {
  /** Its own batch; if it is open, also `''`, the batch of tasks that are in none. */
  readonly batches: readonly string[]
  /** How often a task is tried in all. */
  readonly maxAttempts: number
  readonly client: Client
  readonly problems: ProblemReporter
  readonly lease: TaskServerLease
  readonly claimed: ClaimedTasks
  readonly claimer: TaskClaimer
  readonly runnerLoads: RunnerLoads
  readonly shellExecutor: ShellExecutor
  readonly router: TaskRouter
  readonly outputs: TaskOutputs
  readonly outcomes: OutcomeWriter
  readonly reaper: TaskReaper
  readonly cancellations: Cancellations
  readonly results: ResultReporter
}

export function createTaskServerComponents(
  { session, store, settings, serving, runnerService, onResults }: TaskServerParts,
  server: TaskSink & OutcomeSink & LeaseOwner,
): TaskServerComponents {
  const { priority, bundleSize } = settings
  const batches = serving.isOpen ? [serving.batch, ''] : [serving.batch]
  const maxAttempts = settings.maxRetries + 1
  const client = session.client()
  const problems = new ProblemReporter(settings.onProblem)
  const claimed = new ClaimedTasks()
  const runnerLoads = new RunnerLoads(settings.numTasks)
  const lease = new TaskServerLease(
    { store, serving, leaseMs: settings.evictAfter, problems },
    server,
  )
  const outputs = new TaskOutputs({
    folder: settings.outputs ?? defaultOutputsFolder(store),
    capture: settings.capture,
    onOutput: settings.onOutput,
    problems,
  })
  const bundleOptions = createBundleOptions(settings, store)
  const shellExecutor = new ShellExecutor(
    { client, runnerService, runnerLoads, bundleOptions, bundleSize, priority, problems },
    server,
  )
  const runnersUrl = runnerService.href
  const timeoutMs = settings.taskTimeout
  const router = new TaskRouter(
    { session, shellExecutor, runnersUrl, priority, timeoutMs, outputs },
    server,
  )
  const mayHaveOutput = settings.onOutput !== undefined || settings.monitor
  const waitMs = settings.bundleWait
  const outcomes = new OutcomeWriter(
    {
      store,
      batchSize: bundleSize,
      maxAttempts,
      waitMs,
      claimed,
      outputs,
      mayHaveOutput,
      problems,
    },
    server,
  )
  const cancellations = new Cancellations({ store, serving, batches, lease })
  const results = new ResultReporter({ maxAttempts, cancellations, onResults })
  const reaper = new TaskReaper({ store, claimed, lease, problems })
  const claimer = new TaskClaimer({
    ...{ store, settings, batches, maxAttempts, claimed, router, lease, results, problems },
  })
  return {
    ...{ batches, maxAttempts, client, problems, lease, claimed, claimer, runnerLoads },
    ...{ shellExecutor, router, outputs, outcomes, reaper, cancellations, results },
  }
}
