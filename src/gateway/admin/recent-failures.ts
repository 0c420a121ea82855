/** What failed lately and why, kept so that who looks afterwards still sees it: bounded, repeats counted. */
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
  /** How often the same has happened in a row. */
  readonly count: number
  /** Milliseconds since 1970, of the last time. */
  readonly at: number
}

type NewFailure = Omit<RecentFailure, 'id' | 'count' | 'at'>

/** Of each kind: a thousand resends are not to push out the error that explains them. */
const MAX_PER_KIND = 40
/** Among so many of the last ones of its kind the same failure is looked for. */
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

  /** Those that are new, or have happened again, since this was asked last. */
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

  /** An instance that had been up and failed; one that did not come up is an error already. */
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

/** What makes two failures the same one again: all but the instance that it met. */
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
