/** `manyhost tasks cluster`: tasks from a file or standard input, to their end. */
import { createReadStream, existsSync } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { failureLine } from '../../tasks/server/failures.ts'
import { storeName } from '../../tasks/store/open.ts'
import { type ClusterRunOptions, runCluster, type TaskRun, type TaskSource } from '../../tasks.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { takeSignal } from '../interrupt.ts'
import { line } from '../terminal.ts'
import { exported, kindOf, optionsOf, type ServingFlags } from './asked.ts'
import { type Ground, openGround } from './ground.ts'
import type { Journal } from './journal.ts'
import { besides, nextSteps, restartCommand } from './next.ts'
import { Printing } from './printing.ts'
import { Watch } from './progress.ts'
import { exitFor, storeOf } from './store.ts'

export async function run(
  [file]: readonly (string | undefined)[],
  flags: ServingFlags,
): Promise<number> {
  checkTags(file, flags)
  if (flags.restart && file !== undefined) {
    throw new CliError('usage', '--restart works off what the store has left: give no file')
  }
  if (flags.restart && flags.template !== undefined) {
    const text =
      '--restart: -t is for tasks of an older version; all others run as they were stored'
    process.stderr.write(`manyhost: ${text}\n`)
  }
  const source = flags.restart ? undefined : sourceOf(file, flags.forever === true)
  const { forever = false, restart = false } = flags
  return serve(source, flags, { forever, restart }, file)
}

/** `--tag a:1 jobs.txt` would take the file for a tag, and read lines from elsewhere. @throws CliError */
export function checkTags(file: string | undefined, { tag = [] }: ServingFlags): void {
  const [, ...later] = tag
  const name = file === undefined && later.find((word) => !word.includes(':') && existsSync(word))
  if (!name) return
  throw new CliError(
    'usage',
    `${name} is a file and stands behind --tag, which takes all words: write the file before it, or behind --; a tag is ${name}:true`,
  )
}

/** The lines to work off; none: only what the store has. @throws CliError */
export function sourceOf(file: string | undefined, mayBeNone: boolean): TaskSource | undefined {
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
export async function serve(
  source: TaskSource | undefined,
  flags: ServingFlags,
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
      : await (await import('./journal.ts')).openJournal(flags.logFile, flags)
  const watch = new Watch()
  const say = (text: string): void => {
    watch.say(text)
    journal?.problem(text)
  }
  try {
    const ground = await openGround(flags, say)
    try {
      return await serveOn(ground, { source, file, flags, more, watch, say, journal, onReady })
    } finally {
      await ground.close()
    }
  } catch (error) {
    journal?.failed(error)
    throw error
  } finally {
    await journal?.close()
  }
}

interface Serving {
  readonly source: TaskSource | undefined
  /** What it was read from. */
  readonly file: string | undefined
  readonly flags: ServingFlags
  readonly more: ClusterRunOptions
  readonly watch: Watch
  /** To who looks on, and to the log. */
  readonly say: (text: string) => void
  readonly journal: Journal | undefined
  readonly onReady: (run: TaskRun) => Promise<void>
}

async function serveOn(
  ground: Ground,
  { source, file, flags, more, watch, say, journal, onReady }: Serving,
): Promise<number> {
  const outputs = new Printing(flags)
  // What is meant for tasks is stored with them: whoever runs them later has it as well.
  const env = exported(process.env)
  const reading = {
    kind: kindOf(flags),
    template: flags.template ?? '{}',
    cwd: process.cwd(),
    env,
  }
  let bad = 0
  let started: TaskRun
  try {
    started = runCluster(source, {
      ...optionsOf(flags, ground),
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
            watch.clear()
            return outputs.write(id, stream, chunk)
          },
        }),
    })
  } catch (error) {
    throw exitFor(error)
  }
  const interrupted = hear(started, flags)
  let isLost: unknown
  ground.failed?.catch((error) => {
    isLost = error
    started.stop()
  })
  watch.begin(started, () => outputs.lineEnd())
  try {
    await started.ready
    journal?.begin({ store: storeName(storeOf(flags)), url: started.url })
    await onReady(started)
    await tellBesides(started, flags, watch)
    for await (const result of started) {
      const { exitStatus, willRetry, args, message } = result
      journal?.outcome(result)
      if (exitStatus === 0 || willRetry) continue
      if (flags.print) await line(failureLine(result, reading))
      if (message !== undefined) watch.say(`${args.slice(0, 200)}: ${message}`)
    }
    const counts = await started
    journal?.end(counts)
    if (interrupted.code !== undefined) return interrupted.code
    if (isLost) throw isLost
    return counts.failed + counts.cancelled + bad > 0
      ? TASK_EXIT.failure.number
      : TASK_EXIT.ok.number
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new CliError('listen', describe(error), { cause: error })
    }
    throw exitFor(error)
  } finally {
    watch.end(started.counts)
    await outputs.close()
    const { counts, remaining } = started
    const hasSource = source !== undefined
    const { failures } = flags
    const failureFiles =
      failures === undefined ? [] : [failures, `${failures}.json`].filter((one) => existsSync(one))
    const next = remaining && nextSteps({ counts, remaining, flags, file, hasSource, failureFiles })
    for (const one of next ?? []) watch.say(one)
  }
}

/** That what others have left is not run. Nothing comes of it when that cannot be found out. */
async function tellBesides(run: TaskRun, flags: ServingFlags, watch: Watch): Promise<void> {
  if (flags.db === false) return
  const left = await run.leftBeside().catch(() => [])
  for (const one of besides(left, process.cwd())) watch.say(one)
}

/** USR1 drains; USR2, TERM and Ctrl-C interrupt what runs and give it back, a second one ends at once. */
function hear(run: TaskRun, flags: ServingFlags): { code: number | undefined } {
  const heard: { code: number | undefined } = { code: undefined }
  process.on('SIGUSR1', () => run.drain())
  process.on('SIGUSR2', () => run.stop())
  const end = (): void => {
    const { number } = TASK_EXIT.interrupted
    if (heard.code !== undefined) {
      const left = flags.db === false ? '' : `; to run what is left: ${restartCommand(flags)}`
      process.stderr.write(`\nmanyhost: ended at once, by a second signal${left}\n`)
      process.exit(number)
    }
    heard.code = number
    run.stop()
  }
  takeSignal('SIGINT', end)
  takeSignal('SIGTERM', end)
  return heard
}
