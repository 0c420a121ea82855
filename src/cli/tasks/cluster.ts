/** `manyhost tasks cluster`: runs the tasks of a file or of standard input until all have an outcome. */
import { createReadStream, existsSync } from 'node:fs'
import { formatFailureLine } from '../../tasks/server/failure-file.ts'
import { storeName } from '../../tasks/store/open.ts'
import { type ClusterRunOptions, runCluster, type TaskRun, type TaskSource } from '../../tasks.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { replaceSignalListeners } from '../interrupt.ts'
import { writeLine } from '../terminal.ts'
import { describeLeftovers, describeNextSteps, formatRestartCommand } from './next-steps.ts'
import { openTaskEnvironment } from './open-task-environment.ts'
import { TaskProgressDisplay } from './progress-display.ts'
import {
  chooseLineKind,
  exportedVariables,
  type TaskServingFlags,
  toClusterRunOptions,
} from './run-options.ts'
import { chooseStore, toTaskCliError } from './store.ts'
import type { TaskEnvironment } from './task-environment.ts'
import type { TaskLog } from './task-log.ts'
import { TaskOutputWriter } from './task-output.ts'

export async function run(
  [file]: readonly (string | undefined)[],
  flags: TaskServingFlags,
): Promise<number> {
  refuseFileAsTag(file, flags)
  if (flags.restart && file !== undefined) {
    throw new CliError('usage', '--restart runs the tasks that are left in the store: give no file')
  }
  if (flags.restart && flags.template !== undefined) {
    const text =
      '--restart: -t applies only to tasks of an older version; all other tasks run as they were stored'
    process.stderr.write(`manyhost: ${text}\n`)
  }
  const source = flags.restart ? undefined : openTaskSource(file, flags.forever === true)
  const { forever = false, restart = false } = flags
  return serveTasks(source, flags, { forever, restart }, file)
}

/** Otherwise `--tag a:1 jobs.txt` would take the file for a tag, and read standard input. @throws CliError */
export function refuseFileAsTag(file: string | undefined, { tag = [] }: TaskServingFlags): void {
  const [, ...later] = tag
  const name = file === undefined && later.find((word) => !word.includes(':') && existsSync(word))
  if (!name) return
  throw new CliError(
    'usage',
    `${name} is a file and follows --tag, which takes all words: write the file before --tag, or after --; a tag is ${name}:true`,
  )
}

/** Opens the lines of tasks. Undefined: run only the tasks of the store. @throws CliError if there is no file */
export function openTaskSource(
  file: string | undefined,
  isOptional: boolean,
): TaskSource | undefined {
  if (file !== undefined && file !== '-') {
    if (!existsSync(file)) throw new CliError('usage', `there is no file ${file}`)
    return createReadStream(file)
  }
  if (file === undefined && process.stdin.isTTY) {
    if (isOptional) return undefined
    throw new CliError(
      'usage',
      'no tasks: give a file, or pipe lines in (- reads from the terminal)',
    )
  }
  return process.stdin
}

/** Runs tasks until all have an outcome, or a signal ends the command. Resolves with the exit code. */
export async function serveTasks(
  source: TaskSource | undefined,
  flags: TaskServingFlags,
  overrides: ClusterRunOptions,
  file: string | undefined,
  onReady: (run: TaskRun) => Promise<void> = async () => {},
): Promise<number> {
  if (flags.requests && flags.fleet === undefined) {
    throw new CliError('usage', '--requests needs the fleet file of the services: give --fleet')
  }
  // The module is loaded only with --log-file.
  const taskLog =
    flags.logFile === undefined
      ? undefined
      : await (await import('./task-log.ts')).openTaskLog(flags.logFile, flags)
  const progress = new TaskProgressDisplay()
  const report = (text: string): void => {
    progress.printMessage(text)
    taskLog?.logProblem(text)
  }
  try {
    const environment = await openTaskEnvironment(flags, report)
    try {
      return await runBatch(environment, {
        source,
        file,
        flags,
        overrides,
        progress,
        report,
        taskLog,
        onReady,
      })
    } finally {
      await environment.close()
    }
  } catch (error) {
    taskLog?.logFailure(error)
    throw error
  } finally {
    await taskLog?.close()
  }
}

interface ServingContext {
  readonly source: TaskSource | undefined
  /** The file that `source` reads. */
  readonly file: string | undefined
  readonly flags: TaskServingFlags
  readonly overrides: ClusterRunOptions
  readonly progress: TaskProgressDisplay
  /** Shows a line to the user, and writes it to the log. */
  readonly report: (text: string) => void
  readonly taskLog: TaskLog | undefined
  readonly onReady: (run: TaskRun) => Promise<void>
}

async function runBatch(
  environment: TaskEnvironment,
  { source, file, flags, overrides, progress, report, taskLog, onReady }: ServingContext,
): Promise<number> {
  const outputs = new TaskOutputWriter(flags)
  // These variables are stored with the tasks, so that a later run has them as well.
  const env = exportedVariables(process.env)
  const lineFormat = {
    kind: chooseLineKind(flags),
    template: flags.template ?? '{}',
    cwd: process.cwd(),
    env,
  }
  let badLines = 0
  let started: TaskRun
  try {
    started = runCluster(source, {
      ...toClusterRunOptions(flags, environment),
      env,
      ...overrides,
      onBad: ({ message }) => {
        badLines++
        report(message)
      },
      onProblem: report,
      ...(!flags.capture &&
        !flags.print && {
          onOutput: ({ id }, stream, chunk) => {
            progress.clearBar()
            return outputs.write(id, stream, chunk)
          },
        }),
    })
  } catch (error) {
    throw toTaskCliError(error)
  }
  const interrupted = listenForSignals(started, flags)
  let environmentError: unknown
  environment.failed?.catch((error) => {
    environmentError = error
    started.stop()
  })
  progress.begin(started, () => outputs.endOpenLine())
  try {
    await started.ready
    taskLog?.logBegin({ store: storeName(chooseStore(flags)), url: started.url })
    await onReady(started)
    await reportLeftovers(started, flags, progress)
    for await (const result of started) {
      const { exitStatus, willRetry, args, message } = result
      taskLog?.logOutcome(result)
      if (exitStatus === 0 || willRetry) continue
      if (flags.print) await writeLine(formatFailureLine(result, lineFormat))
      if (message !== undefined) progress.printMessage(`${args.slice(0, 200)}: ${message}`)
    }
    const counts = await started
    taskLog?.logEnd(counts)
    if (interrupted.code !== undefined) return interrupted.code
    if (environmentError) throw environmentError
    return counts.failed + counts.cancelled + badLines > 0
      ? TASK_EXIT.failure.number
      : TASK_EXIT.ok.number
  } catch (error) {
    throw toTaskCliError(error)
  } finally {
    progress.end(started.counts)
    await outputs.close()
    const { counts, remaining } = started
    const hasSource = source !== undefined
    const { failures } = flags
    const failureFiles =
      failures === undefined ? [] : [failures, `${failures}.json`].filter((one) => existsSync(one))
    const steps =
      remaining && describeNextSteps({ counts, remaining, flags, file, hasSource, failureFiles })
    for (const one of steps ?? []) progress.printMessage(one)
  }
}

/** Reports tasks that other batches left, because they are not run. An error of the store is ignored here. */
async function reportLeftovers(
  run: TaskRun,
  flags: TaskServingFlags,
  progress: TaskProgressDisplay,
): Promise<void> {
  if (flags.db === false) return
  const left = await run.otherBatches().catch(() => [])
  for (const one of describeLeftovers(left, process.cwd())) progress.printMessage(one)
}

/**
 * - USR1: starts no further task, and ends when the running tasks have ended.
 * - USR2, TERM and Ctrl-C: interrupt the running tasks and put them back into the queue.
 * - A second TERM or Ctrl-C: ends at once.
 */
function listenForSignals(run: TaskRun, flags: TaskServingFlags): { code: number | undefined } {
  const interrupted: { code: number | undefined } = { code: undefined }
  process.on('SIGUSR1', () => run.drain())
  process.on('SIGUSR2', () => run.stop())
  const end = (): void => {
    const { number } = TASK_EXIT.interrupted
    if (interrupted.code !== undefined) {
      const left =
        flags.db === false ? '' : `; to run the remaining tasks: ${formatRestartCommand(flags)}`
      process.stderr.write(`\nmanyhost: ended at once by a second signal${left}\n`)
      process.exit(number)
    }
    interrupted.code = number
    run.stop()
  }
  replaceSignalListeners('SIGINT', end)
  replaceSignalListeners('SIGTERM', end)
  return interrupted
}
