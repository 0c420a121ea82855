/** What becomes of tasks, as JSON lines in a file. */
import { pino } from 'pino'
import { describe } from '../../errors.ts'
import { outcomeOf } from '../../tasks/server/result.ts'
import type { TaskCounts, TaskResult } from '../../tasks.ts'
import { CliError } from '../exit.ts'
import { jsonLogger } from '../logger.ts'
import type { LOG_LEVELS } from './options.ts'

export interface JournalFlags {
  readonly logFile?: string
  readonly logLevel?: (typeof LOG_LEVELS)[number]
}

export interface Journal {
  begin(what: Readonly<Record<string, unknown>>): void
  /** What goes wrong and heals. */
  problem(text: string): void
  /** One that succeeded is of level `debug`, one that will be tried again `info`, one that failed for good `warn`. */
  outcome(result: TaskResult): void
  end(counts: TaskCounts): void
  failed(error: unknown): void
  close(): void
}

/** @throws CliError where the file cannot be written */
export function openJournal(path: string, level: JournalFlags['logLevel'] = 'info'): Journal {
  const file = open(path)
  const log = jsonLogger(level, file)
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
    close: () => file.end(),
  }
}

/** Each line is written when it is said: what ends this process loses none. */
function open(path: string): ReturnType<typeof pino.destination> {
  try {
    const file = pino.destination({
      dest: path,
      append: true,
      sync: true,
      mkdir: true,
      mode: 0o600,
    })
    let isTold = false
    file.on('error', (error) => {
      // Tasks go on without their log.
      if (!isTold) process.stderr.write(`manyhost: ${path}: ${describe(error)}\n`)
      isTold = true
    })
    return file
  } catch (error) {
    throw new CliError('failure', `--log-file: ${describe(error)}`, { cause: error })
  }
}
