/**
 * How many runners a batch of tasks wants, after HyperShell's policies: `session.setSize(url, new DynamicTasks(...))`. The
 * rules are pure; the classes look at the work and at the clock. Unlike the ancestor's they also scale down, and know
 * when the work has ended: from then on they are read as 0.
 */
import { ManyhostError } from '../core/errors.ts'
import { milliseconds, type Parsed, parseOptions, rule, whole } from '../core/options.ts'
import { now } from '../core/time.ts'

/** What a policy sees of the work. */
export interface Work {
  /** Tasks without an outcome, running ones and retries to come included. */
  readonly remaining: number
  /** Tasks that run now. */
  readonly running: number
  /** Outcomes a second, lately; `null` when there was none yet. */
  readonly rate: number | null
  /** Mean time of a task in ms; `null` when none has ended yet. */
  readonly averageDuration: number | null
  /** No more tasks will be handed in: the source has ended, and it is not `forever`. */
  readonly isClosed: boolean
}

const number = rule('a number above 0', 1, (value) =>
  typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined,
)

export const SCALING_RULES = {
  /** Runners at the beginning. */
  initSize: whole(0, 1),
  minSize: whole(0, 0),
  maxSize: whole(1, 1),
  /** How long the size stays, in ms. */
  period: milliseconds(60_000),
  /** How many mean task times it may take to work off what remains. */
  factor: number,
  /** Tasks that one runner has room for; fewer remaining ones need fewer runners. */
  places: whole(1, 1),
}

export type ScalingSettings = Parsed<typeof SCALING_RULES>
export type ScalingOptions = Partial<ScalingSettings>

interface Sized {
  readonly size: number
  /** When it was decided. */
  readonly at: number
}

/** Whether all is done: nothing remains, and nothing will come. */
export function isFinished(work: Work): boolean {
  return work.isClosed && work.remaining === 0 && work.running === 0
}

/** Never more runners than there is room needed for. */
function useful(work: Work, size: number, { minSize, maxSize, places }: ScalingSettings): number {
  const most = Math.ceil(Math.max(work.remaining, work.running) / places)
  const least = work.remaining > 0 ? Math.max(minSize, 1) : minSize
  return Math.max(least, Math.min(size, most, maxSize))
}

/** The rule of `FixedTasks`: `initSize` runners while there is work for them, `minSize` when not, 0 at the end. */
export function fixedSize(work: Work, settings: ScalingSettings): number {
  if (isFinished(work)) return 0
  return useful(work, Math.max(settings.initSize, settings.minSize), settings)
}

/**
 * How long what remains takes, in units of `factor` mean task times; above 1 there are too few runners. `null` when
 * nobody knows yet.
 */
export function pressure(work: Work, factor: number): number | null {
  const { remaining, rate, averageDuration } = work
  if (rate === null || averageDuration === null || rate <= 0 || averageDuration <= 0) return null
  return ((remaining / rate) * 1_000) / (factor * averageDuration)
}

/**
 * The rule of `DynamicTasks`: each period as many runners as the pressure asks for, at most twice what there was; fewer
 * when they have nothing to do.
 */
export function dynamicSize(
  work: Work,
  at: number,
  last: Sized | undefined,
  settings: ScalingSettings,
): Sized {
  if (isFinished(work)) return { size: 0, at }
  if (!last)
    return { size: useful(work, Math.max(settings.initSize, settings.minSize), settings), at }
  // To nothing, and from nothing, at once: a period of waiting would be for nothing.
  const atOnce = useful(work, last.size, settings)
  if (at - last.at < settings.period)
    return atOnce > last.size && last.size === 0 ? { size: atOnce, at } : last
  const asked = pressure(work, settings.factor)
  if (asked === null) return { size: atOnce, at }
  const size = Math.min(Math.ceil(last.size * asked), 2 * Math.max(1, last.size))
  return { size: useful(work, size, settings), at }
}

class Policy {
  protected readonly settings: ScalingSettings
  readonly #work: () => Work

  constructor(name: string, work: () => Work, options: ScalingOptions) {
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

  /** Whether the work has ended, so that it is 0 for good. */
  get isFinished(): boolean {
    return isFinished(this.#work())
  }

  protected get work(): Work {
    return this.#work()
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION from the constructor */
export class FixedTasks extends Policy {
  constructor(work: () => Work, options: ScalingOptions = {}) {
    super('FixedTasks', work, { maxSize: Math.max(1, options.initSize ?? 1), ...options })
  }

  override valueOf(): number {
    return fixedSize(this.work, this.settings)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION from the constructor */
export class DynamicTasks extends Policy {
  #last: Sized | undefined

  constructor(work: () => Work, options: ScalingOptions = {}) {
    super('DynamicTasks', work, options)
  }

  override valueOf(): number {
    this.#last = dynamicSize(this.work, now(), this.#last, this.settings)
    return this.#last.size
  }
}
