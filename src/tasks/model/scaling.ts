/**
 * Decides how many runners a batch of tasks needs, by HyperShell's policies: `session.setSize(url, new DynamicTasks(...))`. The
 * rules are pure functions; the classes read the work and the clock. Unlike HyperShell's, these policies also scale down, and
 * give 0 once the work has ended.
 */
import { ManyhostError } from '../../core/errors.ts'
import { milliseconds, type ParsedOptions, parseOptions, rule, whole } from '../../core/options.ts'
import { now } from '../../core/time.ts'

/** The work, as far as a policy needs to know it. */
export interface TaskWorkload {
  /** Tasks without an outcome, running ones and retries to come included. */
  readonly remaining: number
  /** Tasks that run now. */
  readonly running: number
  /** Recent outcomes per second; `null` before the first outcome. */
  readonly rate: number | null
  /** Average time of a task in ms; `null` before the first outcome. */
  readonly averageDuration: number | null
  /** No more tasks will come: the source has ended, and the run is not `forever`. */
  readonly isClosed: boolean
}

const positiveNumber = rule('a number above 0', 1, (value) =>
  typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined,
)

export const SCALING_RULES = {
  /** Runners at the beginning. */
  initSize: whole(0, 1),
  minSize: whole(0, 0),
  maxSize: whole(1, 1),
  /** How long a size is kept, in ms. */
  period: milliseconds(60_000),
  /** In how many average task times the remaining tasks should be done. */
  factor: positiveNumber,
  /** Tasks that one runner has room for; fewer remaining ones need fewer runners. */
  numTasks: whole(1, 1),
}

export type ScalingSettings = ParsedOptions<typeof SCALING_RULES>
export type ScalingOptions = Partial<ScalingSettings>

interface SizeDecision {
  readonly size: number
  /** Milliseconds on the monotonic clock. */
  readonly decidedAt: number
}

/** Whether everything is done: no task remains, and none will come. */
export function isFinished(work: TaskWorkload): boolean {
  return work.isClosed && work.remaining === 0 && work.running === 0
}

/** Limits a size to the number of runners that the remaining tasks can use. */
function clampToWork(
  work: TaskWorkload,
  size: number,
  { minSize, maxSize, numTasks }: ScalingSettings,
): number {
  const useful = Math.ceil(Math.max(work.remaining, work.running) / numTasks)
  const min = work.remaining > 0 ? Math.max(minSize, 1) : minSize
  return Math.max(min, Math.min(size, useful, maxSize))
}

/** The rule of `FixedTasks`: `initSize` runners while there is work for them, `minSize` when not, 0 at the end. */
export function computeFixedSize(work: TaskWorkload, settings: ScalingSettings): number {
  if (isFinished(work)) return 0
  return clampToWork(work, Math.max(settings.initSize, settings.minSize), settings)
}

/**
 * How long the remaining tasks take, in units of `factor` average task times. Above 1 there are too few runners. `null` where
 * there is no rate yet.
 */
export function computePressure(
  {
    remaining,
    rate,
    averageDuration,
  }: Pick<TaskWorkload, 'remaining' | 'rate' | 'averageDuration'>,
  factor: number,
): number | null {
  if (rate === null || averageDuration === null || rate <= 0 || averageDuration <= 0) return null
  return ((remaining / rate) * 1_000) / (factor * averageDuration)
}

/**
 * The rule of `DynamicTasks`: once per period as many runners as the pressure asks for, but at most twice the last size, and
 * fewer where there are not enough tasks for them.
 */
export function computeDynamicSize(
  work: TaskWorkload,
  at: number,
  last: SizeDecision | undefined,
  settings: ScalingSettings,
): SizeDecision {
  if (isFinished(work)) return { size: 0, decidedAt: at }
  if (!last)
    return {
      size: clampToWork(work, Math.max(settings.initSize, settings.minSize), settings),
      decidedAt: at,
    }
  // A change to 0 or from 0 does not wait for the end of the period.
  const atOnce = clampToWork(work, last.size, settings)
  if (at - last.decidedAt < settings.period)
    return atOnce > last.size && last.size === 0 ? { size: atOnce, decidedAt: at } : last
  const asked = computePressure(work, settings.factor)
  if (asked === null) return { size: atOnce, decidedAt: at }
  const size = Math.min(Math.ceil(last.size * asked), 2 * Math.max(1, last.size))
  return { size: clampToWork(work, size, settings), decidedAt: at }
}

class TaskScalingPolicy {
  protected readonly settings: ScalingSettings
  readonly #work: () => TaskWorkload

  constructor(name: string, work: () => TaskWorkload, options: ScalingOptions) {
    this.settings = parseOptions(name, options, SCALING_RULES)
    if (this.settings.minSize > this.settings.maxSize) {
      const { minSize, maxSize } = this.settings
      throw new ManyhostError(
        'MANYHOST_INVALID_OPTION',
        `${name}: minSize ${minSize} is above maxSize ${maxSize}`,
      )
    }
    this.#work = work
  }

  /** Whether the work has ended: the size stays 0 from now on. */
  get isFinished(): boolean {
    return isFinished(this.#work())
  }

  protected get work(): TaskWorkload {
    return this.#work()
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION from the constructor */
export class FixedTasks extends TaskScalingPolicy {
  constructor(work: () => TaskWorkload, options: ScalingOptions = {}) {
    super('FixedTasks', work, { maxSize: Math.max(1, options.initSize ?? 1), ...options })
  }

  override valueOf(): number {
    return computeFixedSize(this.work, this.settings)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION from the constructor */
export class DynamicTasks extends TaskScalingPolicy {
  #last: SizeDecision | undefined

  constructor(work: () => TaskWorkload, options: ScalingOptions = {}) {
    super('DynamicTasks', work, options)
  }

  override valueOf(): number {
    this.#last = computeDynamicSize(this.work, now(), this.#last, this.settings)
    return this.#last.size
  }
}
