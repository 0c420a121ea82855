/**
 * The calls of a service to its provider, which a user may have written. If a call throws, hangs or returns a wrong value, this
 * is reported once and a default takes its place, so that it stops neither the service nor the process. A start that fails
 * is different: it is retried, and its reason is reported each time.
 */

import { describe } from '../core/describe.ts'
import type { Provider, Running, StartSpec } from '../core/provider.ts'
import { checkRunning } from '../core/provider-checks.ts'
import { type ErrorReporter, FirstFailureReporter, guardFunction } from '../core/user-functions.ts'

/** The `limit` of a provider, read before there is a cluster; undefined if the provider does not know one. */
export function readProviderLimit(provider: Provider): number | undefined {
  try {
    return parseProviderCount(provider.limit)
  } catch {
    // The cluster reads it again, and reports the failure.
    return undefined
  }
}

function parseProviderCount(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 ? value : undefined
}

export class ProviderCalls {
  readonly #provider: Provider
  readonly #service: string
  readonly #report: ErrorReporter | undefined
  readonly #limit: () => number
  readonly #available: () => number
  readonly #stopFailure: FirstFailureReporter
  readonly #shapeFailure: FirstFailureReporter

  constructor(provider: Provider, service: string, report: ErrorReporter | undefined) {
    this.#provider = provider
    this.#service = service
    this.#report = report
    const { name } = provider
    this.#limit = guardFunction<[], number>(() => provider.limit, {
      ...this.#functionInfo(`the limit of provider ${name}`, 'there is no limit'),
      wanted: 'a whole number from 0 up, or undefined',
      read: (value) => (value === undefined ? Number.POSITIVE_INFINITY : parseProviderCount(value)),
      fallback: () => Number.POSITIVE_INFINITY,
    })
    this.#available = guardFunction<[], number>(() => provider.available?.(service), {
      ...this.#functionInfo(`available() of provider ${name}`, 'only its limit counts'),
      wanted: 'a number from 0 up',
      read: (value) =>
        value === undefined && !provider.available
          ? Number.POSITIVE_INFINITY
          : parseProviderCount(value),
      fallback: () => Number.POSITIVE_INFINITY,
    })
    this.#stopFailure = new FirstFailureReporter(
      this.#functionInfo(
        `stop() of an instance of provider ${name}`,
        'the instance is taken as gone',
      ),
    )
    this.#shapeFailure = new FirstFailureReporter(
      this.#functionInfo(`an instance of provider ${name}`, 'that part is ignored'),
    )
  }

  #functionInfo(what: string, instead: string) {
    return { what, instead, service: this.#service, report: this.#report }
  }

  /** How many instances there can be at this moment. */
  get maxInstances(): number {
    return Math.min(this.#limit(), this.#available())
  }

  /** Calls back when `maxInstances` may have grown. @returns a function that unsubscribes */
  onAvailable(listener: () => void): () => void {
    const { name } = this.#provider
    const info = this.#functionInfo(
      `onAvailable() of provider ${name}`,
      'available() is read at each tick',
    )
    return new FirstFailureReporter(info).runUndoable(() => this.#provider.onAvailable?.(listener))
  }

  /** @throws what the provider throws; ManyhostError MANYHOST_START_FAILED for what is no running instance */
  async start(spec: StartSpec, signal: AbortSignal): Promise<Running> {
    return checkRunning(await this.#provider.start(spec, { signal }), this.#provider)
  }

  reportStopFailure(error: unknown): void {
    this.#stopFailure.reportThrown(error)
  }

  /** Places of an instance: as many as it says, or as many as its service has. */
  slotsOf({ slots }: Running, concurrency: number): number {
    if (slots === undefined) return concurrency
    if (slots >= 1 && (Number.isInteger(slots) || slots === Number.POSITIVE_INFINITY)) return slots
    this.#shapeFailure.reportThrown(
      new TypeError(`slots must be a whole number from 1 up, got ${describe(slots)}`),
    )
    return concurrency
  }

  /** Resolves when the machine of the instance is about to go. Never rejects. */
  async whenLeaving(running: Running, act: (reason: string) => void): Promise<void> {
    try {
      // Inside, because a user's object may have a getter for it that throws.
      const { leaving } = running
      if (leaving !== undefined) act(String(await leaving))
    } catch (error) {
      this.#shapeFailure.reportThrown(error)
    }
  }
}

/** The name that the certificate of a server at `https://name:port` must have. */
export function tlsServerName(address: string | undefined): string | undefined {
  const isTls = typeof address === 'string' && address.startsWith('https:')
  return isTls && URL.canParse(address) ? new URL(address).hostname : undefined
}
