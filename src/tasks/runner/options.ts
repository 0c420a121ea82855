/** Options of a runner and of its bundles, parsed once. */
import { availableParallelism } from 'node:os'
import { ManyhostError } from '../../core/errors.ts'
import {
  flag,
  milliseconds,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
  whole,
} from '../../core/options.ts'
import { compileTemplate } from '../text/template.ts'

function templateRule() {
  return rule("a template such as 'convert {}'", '{}', (value) => {
    if (typeof value !== 'string') return undefined
    try {
      compileTemplate(value)
      return value
    } catch (cause) {
      const message = `template: ${(cause as Error).message}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', message, { cause })
    }
  })
}

const isNonEmptyText = (value: string): boolean => value !== '' && !value.includes('\0')

export const RUNNER_RULES = {
  /** Tasks that run at a time; 0: as many as the machine has cores. */
  numTasks: rule('a whole number from 0 to 4096 (0: the cores of the machine)', 1, (value) => {
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 4_096)
      return undefined
    return value === 0 ? availableParallelism() : (value as number)
  }),
  /** Cores for all tasks together. A task that names none takes one. */
  cores: whole(1, Number.POSITIVE_INFINITY),
  /** Bytes of memory for all tasks together. */
  memory: whole(1, Number.POSITIVE_INFINITY, { unlimited: true, unit: 'bytes' }),
  /** How long other tasks may be started before a task that does not fit. Then only those are that do not delay it. */
  backfillTimeout: milliseconds(10_000, 'never'),
  template: templateRule(),
  /** The program that runs a command, as `shell -c command`. */
  shell: rule('a path', '/bin/sh', (value) =>
    typeof value === 'string' && value.startsWith('/') && isNonEmptyText(value) ? value : undefined,
  ),
  cwd: text('the path of a folder', isNonEmptyText),
  env: record(),
  /** Longest time of any task, also of one whose own timeout is longer. */
  timeout: milliseconds(0, 'unlimited'),
  /** Time from INT to TERM, and from TERM to KILL, for a task that is interrupted. */
  signalWait: milliseconds(10_000, 'at once'),
  /** Most tasks that are started in a second. */
  rate: rule('starts a second, above 0, or Infinity', Number.POSITIVE_INFINITY, (value) =>
    typeof value === 'number' && value > 0 ? value : undefined,
  ),
  capture: flag(true),
  monitor: flag(false),
  bundleSize: whole(1, 100),
  bundleWait: milliseconds(50, 'at once'),
  /** Files on the runner's machine to which standard output and error are added, instead of being sent. */
  output: text('the path of a file', isNonEmptyText),
  errors: text('the path of a file', isNonEmptyText),
  /** Time without work after which the runner ends. */
  clientTimeout: milliseconds(0, 'never'),
  /** Most tasks of one POST. */
  maxTasks: whole(1, 100_000),
} as const

export type RunnerSettings = ParsedOptions<typeof RUNNER_RULES>

export type RunnerOptions = Partial<{
  -readonly [Name in keyof RunnerSettings]: RunnerSettings[Name]
}>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseRunnerOptions(options: RunnerOptions = {}): RunnerSettings {
  return parseOptions('runner', options, RUNNER_RULES)
}

/** The options that a POST may set for its tasks, instead of the runner's. */
export const BUNDLE_RULES = {
  template: RUNNER_RULES.template,
  cwd: RUNNER_RULES.cwd,
  env: RUNNER_RULES.env,
  timeout: RUNNER_RULES.timeout,
  signalWait: RUNNER_RULES.signalWait,
  capture: RUNNER_RULES.capture,
  monitor: RUNNER_RULES.monitor,
  bundleSize: RUNNER_RULES.bundleSize,
  bundleWait: RUNNER_RULES.bundleWait,
}
