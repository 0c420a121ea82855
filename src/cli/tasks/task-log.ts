/** The log of a batch: outcomes and problems as JSON lines in a file. */
import { type EventEmitter, once } from 'node:events'
import { type DestinationStream, pino } from 'pino'
import { describeError } from '../../core/errors.ts'
import { classifyOutcome } from '../../tasks/server/result.ts'
import type { TaskCounts, TaskResult } from '../../tasks.ts'
import { CliError } from '../exit.ts'
import { createJsonLogger } from '../logger.ts'
import type { LOG_LEVELS } from './options.ts'

export interface TaskLogFlags {
  readonly logFile?: string
  readonly logLevel?: (typeof LOG_LEVELS)[number]
  readonly logSize?: number
  readonly logEvery?: string
  readonly logKeep?: number
}

export interface TaskLog {
  logBegin(what: Readonly<Record<string, unknown>>): void
  /** A problem that does not end the batch. */
  logProblem(text: string): void
  /** Level `debug` for a task that succeeded, `info` for one that will be tried again, `warn` for one that failed for good. */
  logOutcome(result: TaskResult): void
  logEnd(counts: TaskCounts): void
  logFailure(error: unknown): void
  close(): Promise<void>
}

type TaskLogFile = EventEmitter & DestinationStream & { end(): void }

/** @throws CliError if the file cannot be written */
export async function openTaskLog(path: string, flags: TaskLogFlags): Promise<TaskLog> {
  const file = await openLogFile(path, flags)
  let isReported = false
  file.on('error', (error: Error) => {
    // The tasks go on without a log.
    if (!isReported) process.stderr.write(`manyhost: ${path}: ${describeError(error)}\n`)
    isReported = true
  })
  const log = createJsonLogger(flags.logLevel ?? 'info', file)
  return {
    logBegin: (what) => log.info(what, 'begun'),
    logProblem: (text) => log.warn(text),
    logOutcome(result) {
      const { id, args, attempt, exitStatus, duration, clientHost, willRetry, message } = result
      const outcome = classifyOutcome(result)
      const level = outcome === 'succeeded' ? 'debug' : willRetry ? 'info' : 'warn'
      log[level]({ id, args, attempt, exitStatus, duration, clientHost, message }, outcome)
    },
    logEnd: (counts) => log.info(counts, 'ended'),
    logFailure: (error) => log.error(describeError(error)),
    async close() {
      const closed = once(file, 'close').catch(() => {})
      file.end()
      await closed
    },
  }
}

async function openLogFile(
  path: string,
  { logSize, logEvery, logKeep = 10 }: TaskLogFlags,
): Promise<TaskLogFile> {
  try {
    if (logSize !== undefined || logEvery !== undefined) {
      const { openRotatingFile } = await import('./rotating-file.ts')
      return await openRotatingFile(path, { sizeBytes: logSize, every: logEvery, keep: logKeep })
    }
    // Each line is written synchronously, so that the end of this process loses no line.
    return pino.destination({ dest: path, append: true, sync: true, mkdir: true, mode: 0o600 })
  } catch (error) {
    throw new CliError('failure', `--log-file: ${describeError(error)}`, { cause: error })
  }
}
