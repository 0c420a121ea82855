/** `manyhost tasks cluster`: tasks from a file or standard input, to their end. */
import { createReadStream, existsSync } from 'node:fs'
import { describeError } from '../../core/errors.ts'
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
    throw new CliError('usage', '--restart works off what the store has left: give no file')
  }
  if (flags.restart && flags.template !== undefined) {
    const text =
      '--restart: -t is for tasks of an older version; all others run as they were stored'
    process.stderr.write(`manyhost: ${text}\n`)
  }
  const source = flags.restart ? undefined : openTaskSource(file, flags.forever === true)
  const { forever = false, restart = false } = flags
  return serveTasks(source, flags, { forever, restart }, file)
}

/** `--tag a:1 jobs.txt` would take the file for a tag, and read lines from elsewhere. @throws CliError */
export function refuseFileAsTag(file: string | undefined, { tag = [] }: TaskServingFlags): void {
  const [, ...later] = tag
  const name = file === undefined && later.find((word) => !word.includes(':') && existsSync(word))
  if (!name) return
  throw new CliError(
    'usage',
    `${name} is a file and stands behind --tag, which takes all words: write the file before it, or behind --; a tag is ${name}:true`,
  )
}

/** The lines to work off; none: only what the store has. @throws CliError */
export function openTaskSource(
  file: string | undefined,
  mayBeNone: boolean,
): TaskSource | undefined {
  if (file !== undefined && file !== '-') {
    if (!existsSync(file)) throw new CliError('usage', `there is no file ${file}`)
    return createReadStream(file)
  }
  if (file === undefined && process.stdin.isTTY) {
    if (mayBeNone) return undefined
    throw new CliError(
      'usage',
      'no tasks: give a file, or pipe lines in (- reads from the terminal)',
    )
  }
  return process.stdin
}

/** Serves until it is over, or a signal ends it. */
export async function serveTasks(
  source: TaskSource | undefined,
  flags: TaskServingFlags,
  more: ClusterRunOptions,
  file: string | undefined,
  onReady: (run: TaskRun) => Promise<void> = async () => {},
): Promise<number> {
  if (flags.requests && flags.fleet === undefined) {
    throw new CliError('usage', '--requests wants the file that has their services: --fleet')
  }
  // The log is loaded for those who want one.
  const journal =
    flags.logFile === undefined
      ? undefined
      : await (await import('./task-log.ts')).openTaskLog(flags.logFile, flags)
  const watch = new TaskProgressDisplay()
  const say = (text: string): void => {
    watch.printMessage(text)
    journal?.logProblem(text)
  }
  try {
    const ground = await openTaskEnvironment(flags, say)
    try {
      return await runBatch(ground, {
        source,
        file,
        flags,
        overrides: more,
        progress: watch,
        report: say,
        taskLog: journal,
        onReady,
      })
    } finally {
      await ground.close()
    }
  } catch (error) {
    journal?.logFailure(error)
    throw error
  } finally {
    await journal?.close()
  }
}

interface ServingContext {
  readonly source: TaskSource | undefined
  /** What it was read from. */
  readonly file: string | undefined
  readonly flags: TaskServingFlags
  readonly overrides: ClusterRunOptions
  readonly progress: TaskProgressDisplay
  /** To who looks on, and to the log. */
  readonly report: (text: string) => void
  readonly taskLog: TaskLog | undefined
  readonly onReady: (run: TaskRun) => Promise<void>
}

async function runBatch(
  ground: TaskEnvironment,
  {
    source,
    file,
    flags,
    overrides: more,
    progress: watch,
    report: say,
    taskLog: journal,
    onReady,
  }: ServingContext,
): Promise<number> {
  const outputs = new TaskOutputWriter(flags)
  // What is meant for tasks is stored with them: whoever runs them later has it as well.
  const env = exportedVariables(process.env)
  const reading = {
    kind: chooseLineKind(flags),
    template: flags.template ?? '{}',
    cwd: process.cwd(),
    env,
  }
  let bad = 0
  let started: TaskRun
  try {
    started = runCluster(source, {
      ...toClusterRunOptions(flags, ground),
      env,
      ...more,
      onBad: ({ message }) => {
        bad++
        say(message)
      },
      onProblem: say,
      ...(!flags.capture &&
        !flags.print && {
          onOutput: ({ id }, stream, chunk) => {
            watch.clearBar()
            return outputs.write(id, stream, chunk)
          },
        }),
    })
  } catch (error) {
    throw toTaskCliError(error)
  }
  const interrupted = listenForSignals(started, flags)
  let isLost: unknown
  ground.failed?.catch((error) => {
    isLost = error
    started.stop()
  })
  watch.begin(started, () => outputs.endOpenLine())
  try {
    await started.ready
    journal?.logBegin({ store: storeName(chooseStore(flags)), url: started.url })
    await onReady(started)
    await reportLeftovers(started, flags, watch)
    for await (const result of started) {
      const { exitStatus, willRetry, args, message } = result
      journal?.logOutcome(result)
      if (exitStatus === 0 || willRetry) continue
      if (flags.print) await writeLine(formatFailureLine(result, reading))
      if (message !== undefined) watch.printMessage(`${args.slice(0, 200)}: ${message}`)
    }
    const counts = await started
    journal?.logEnd(counts)
    if (interrupted.code !== undefined) return interrupted.code
    if (isLost) throw isLost
    return counts.failed + counts.cancelled + bad > 0
      ? TASK_EXIT.failure.number
      : TASK_EXIT.ok.number
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new CliError('listen', describeError(error), { cause: error })
    }
    throw toTaskCliError(error)
  } finally {
    watch.end(started.counts)
    await outputs.close()
    const { counts, remaining } = started
    const hasSource = source !== undefined
    const { failures } = flags
    const failureFiles =
      failures === undefined ? [] : [failures, `${failures}.json`].filter((one) => existsSync(one))
    const next =
      remaining && describeNextSteps({ counts, remaining, flags, file, hasSource, failureFiles })
    for (const one of next ?? []) watch.printMessage(one)
  }
}

/** That what others have left is not run. Nothing comes of it when that cannot be found out. */
async function reportLeftovers(
  run: TaskRun,
  flags: TaskServingFlags,
  watch: TaskProgressDisplay,
): Promise<void> {
  if (flags.db === false) return
  const left = await run.otherBatches().catch(() => [])
  for (const one of describeLeftovers(left, process.cwd())) watch.printMessage(one)
}

/** USR1 drains; USR2, TERM and Ctrl-C interrupt what runs and give it back, a second one ends at once. */
function listenForSignals(run: TaskRun, flags: TaskServingFlags): { code: number | undefined } {
  const heard: { code: number | undefined } = { code: undefined }
  process.on('SIGUSR1', () => run.drain())
  process.on('SIGUSR2', () => run.stop())
  const end = (): void => {
    const { number } = TASK_EXIT.interrupted
    if (heard.code !== undefined) {
      const left = flags.db === false ? '' : `; to run what is left: ${formatRestartCommand(flags)}`
      process.stderr.write(`\nmanyhost: ended at once, by a second signal${left}\n`)
      process.exit(number)
    }
    heard.code = number
    run.stop()
  }
  replaceSignalListeners('SIGINT', end)
  replaceSignalListeners('SIGTERM', end)
  return heard
}
