/** The last failures with their reasons, for people who look later. Their number is limited, and repeats are counted. */
import type { ManyhostError } from '../../core/errors.ts'
import type { InstanceEvent, ResendEvent } from '../../core/events.ts'
import { wallClock } from '../../core/time.ts'

export interface RecentFailure {
  readonly id: number
  readonly kind: 'error' | 'instance' | 'resend'
  readonly service: string
  readonly instance: string | null
  readonly code: string | null
  readonly text: string
  /** Last lines that the instance wrote. */
  readonly output: string | null
  /** How often the same failure has happened. */
  readonly count: number
  /** Milliseconds since 1970, of the last time. */
  readonly at: number
}

type NewFailure = Omit<RecentFailure, 'id' | 'count' | 'at'>

/** Limit for each kind, so that a thousand resends do not push out the error that explains them. */
const MAX_PER_KIND = 40
/** A repeat is searched for among this many of the last failures of its kind. */
const REPEAT_WINDOW = 8
const MAX_TEXT = 1_000
const MAX_OUTPUT = 4_000

export class RecentFailures {
  #failures: RecentFailure[] = []
  readonly #newIds = new Set<number>()
  #count = 0

  get all(): readonly RecentFailure[] {
    return this.#failures
  }

  /** Failures that are new, or have happened again, since the last call. */
  takeNew(): RecentFailure[] {
    const fresh = this.#failures.filter(({ id }) => this.#newIds.has(id))
    this.#newIds.clear()
    return fresh
  }

  addError(error: ManyhostError): void {
    this.#add({
      kind: 'error',
      service: error.service ?? '',
      instance: null,
      code: error.code,
      text: firstLine(error.message),
      output: error.output ? lastOutput(error.output) : null,
    })
  }

  /** Adds an instance that failed after it was ready. A failed start is reported as an error, see `addError`. */
  addInstanceFailure({ service, instance, state, from, reason, output }: InstanceEvent): void {
    if (state !== 'failed' || from === 'starting' || from === 'pending') return
    const text = firstLine(reason ?? 'failed')
    this.#add({
      kind: 'instance',
      service,
      instance,
      code: null,
      text,
      output: output ? lastOutput(output) : null,
    })
  }

  addResend({ service, instance, reason }: ResendEvent): void {
    this.#add({ kind: 'resend', service, instance, code: null, text: reason, output: null })
  }

  #add(found: NewFailure): void {
    const ofKind = this.#failures.filter(({ kind }) => kind === found.kind)
    const same = ofKind
      .slice(-REPEAT_WINDOW)
      .find((one) => one.service === found.service && repeatKey(one) === repeatKey(found))
    const gone = same ?? (ofKind.length >= MAX_PER_KIND ? ofKind[0] : undefined)
    if (gone) this.#failures = this.#failures.filter((one) => one !== gone)
    const id = same?.id ?? ++this.#count
    this.#failures.push({ ...found, id, count: (same?.count ?? 0) + 1, at: wallClock() })
    this.#newIds.add(id)
  }
}

/** Equal for two failures that differ only in their instance. */
function repeatKey({ kind, instance, code, text }: NewFailure): string {
  return kind === 'resend'
    ? `${instance} ${text}`
    : `${code} ${text.replace(/-[\da-f]{8}-\d+/g, '')}`
}

function firstLine(message: string): string {
  return (message.split('\n', 1)[0] as string).slice(0, MAX_TEXT)
}

function lastOutput(output: string): string {
  return output.trimEnd().slice(-MAX_OUTPUT)
}
