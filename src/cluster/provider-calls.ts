/**
 * How a service calls its provider, which a user may have written. What throws, hangs or answers nonsense there is
 * reported once and replaced by a default, so that it stops neither the service nor the process. A start that fails is
 * no such failure: it is retried, and its reason is told each time.
 */
import { FirstFailure, guarded, type Report } from '../core/guarded.ts'
import { show } from '../core/options.ts'
import type { Provider, Running, StartSpec } from '../core/provider.ts'
import { checkRunning } from '../core/running.ts'

/** Instances that the provider can have at most, as it says before there is a cluster; undefined where it does not know. */
export function limitOf(provider: Provider): number | undefined {
  try {
    return countOf(provider.limit)
  } catch {
    // The cluster asks again, and reports it.
    return undefined
  }
}

function countOf(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 ? value : undefined
}

export class ProviderCalls {
  readonly #provider: Provider
  readonly #service: string
  readonly #report: Report | undefined
  readonly #limit: () => number
  readonly #available: () => number
  readonly #stopping: FirstFailure
  readonly #shape: FirstFailure

  constructor(provider: Provider, service: string, report: Report | undefined) {
    this.#provider = provider
    this.#service = service
    this.#report = report
    const { name } = provider
    this.#limit = guarded<[], number>(() => provider.limit, {
      ...this.#facts(`the limit of provider ${name}`, 'there is no limit'),
      wanted: 'a whole number from 0 up, or undefined',
      read: (value) => (value === undefined ? Number.POSITIVE_INFINITY : countOf(value)),
      fallback: () => Number.POSITIVE_INFINITY,
    })
    this.#available = guarded<[], number>(() => provider.available?.(service), {
      ...this.#facts(`available() of provider ${name}`, 'only its limit counts'),
      wanted: 'a number from 0 up',
      read: (value) =>
        value === undefined && !provider.available ? Number.POSITIVE_INFINITY : countOf(value),
      fallback: () => Number.POSITIVE_INFINITY,
    })
    this.#stopping = new FirstFailure(
      this.#facts(`stop() of an instance of provider ${name}`, 'the instance is taken as gone'),
    )
    this.#shape = new FirstFailure(
      this.#facts(`an instance of provider ${name}`, 'that part is ignored'),
    )
  }

  #facts(what: string, instead: string) {
    return { what, instead, service: this.#service, report: this.#report }
  }

  /** Instances that there can be at this moment. */
  get most(): number {
    return Math.min(this.#limit(), this.#available())
  }

  /** Calls back when `most` may have grown; the function that is answered unsubscribes. */
  onAvailable(listener: () => void): () => void {
    const { name } = this.#provider
    const facts = this.#facts(`onAvailable() of provider ${name}`, 'each tick looks for room')
    return new FirstFailure(facts).undoable(() => this.#provider.onAvailable?.(listener))
  }

  /** @throws what the provider throws; ManyhostError MANYHOST_START_FAILED for what is no running instance */
  async start(spec: StartSpec, signal: AbortSignal): Promise<Running> {
    return checkRunning(await this.#provider.start(spec, { signal }), this.#provider)
  }

  stopFailed(error: unknown): void {
    this.#stopping.threw(error)
  }

  /** Places of an instance: as many as it says, or as many as its service has. */
  placesOf({ places }: Running, concurrency: number): number {
    if (places === undefined) return concurrency
    if (places >= 1 && (Number.isInteger(places) || places === Number.POSITIVE_INFINITY))
      return places
    this.#shape.threw(new TypeError(`places must be a whole number from 1 up, got ${show(places)}`))
    return concurrency
  }

  /** Resolves when the machine of the instance is about to go. Never rejects. */
  async leavingOf(running: Running, act: (reason: string) => void): Promise<void> {
    try {
      // Inside, because a user's object may have a getter for it that throws.
      const { leaving } = running
      if (leaving !== undefined) act(String(await leaving))
    } catch (error) {
      this.#shape.threw(error)
    }
  }
}
