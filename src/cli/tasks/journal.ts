/** What becomes of tasks, as JSON lines in a file. */
import { type EventEmitter, once } from 'node:events'
import { type DestinationStream, pino } from 'pino'
import { describe } from '../../core/errors.ts'
import { outcomeOf } from '../../tasks/server/result.ts'
import type { TaskCounts, TaskResult } from '../../tasks.ts'
import { CliError } from '../exit.ts'
import { jsonLogger } from '../logger.ts'
import type { LOG_LEVELS } from './options.ts'

export interface JournalFlags {
  readonly logFile?: string
  readonly logLevel?: (typeof LOG_LEVELS)[number]
  readonly logSize?: number
  readonly logEvery?: string
  readonly logKeep?: number
}

export interface Journal {
  begin(what: Readonly<Record<string, unknown>>): void
  /** What goes wrong and heals. */
  problem(text: string): void
  /** One that succeeded is of level `debug`, one that will be tried again `info`, one that failed for good `warn`. */
  outcome(result: TaskResult): void
  end(counts: TaskCounts): void
  failed(error: unknown): void
  close(): Promise<void>
}

type LogFile = EventEmitter & DestinationStream & { end(): void }

/** @throws CliError where the file cannot be written */
export async function openJournal(path: string, flags: JournalFlags): Promise<Journal> {
  const file = await open(path, flags)
  let isTold = false
  file.on('error', (error: Error) => {
    // Tasks go on without their log.
    if (!isTold) process.stderr.write(`manyhost: ${path}: ${describe(error)}\n`)
    isTold = true
  })
  const log = jsonLogger(flags.logLevel ?? 'info', file)
  return {
    begin: (what) => log.info(what, 'begun'),
    problem: (text) => log.warn(text),
    outcome(result) {
      const { id, args, attempt, exitStatus, duration, clientHost, willRetry, message } = result
      const outcome = outcomeOf(result)
      const level = outcome === 'succeeded' ? 'debug' : willRetry ? 'info' : 'warn'
      log[level]({ id, args, attempt, exitStatus, duration, clientHost, message }, outcome)
    },
    end: (counts) => log.info(counts, 'ended'),
    failed: (error) => log.error(describe(error)),
    async close() {
      const closed = once(file, 'close').catch(() => {})
      file.end()
      await closed
    },
  }
}

async function open(
  path: string,
  { logSize, logEvery, logKeep = 10 }: JournalFlags,
): Promise<LogFile> {
  try {
    if (logSize !== undefined || logEvery !== undefined) {
      const { openRotated } = await import('./rotated.ts')
      return await openRotated(path, { size: logSize, every: logEvery, keep: logKeep })
    }
    // Each line is written when it is said: what ends this process loses none.
    return pino.destination({ dest: path, append: true, sync: true, mkdir: true, mode: 0o600 })
  } catch (error) {
    throw new CliError('failure', `--log-file: ${describe(error)}`, { cause: error })
  }
}
