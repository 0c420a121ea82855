/** The providers of a session's services: their events of agents, and their end. */
import type { AgentEvent } from '../core/events.ts'
import type { Provider } from '../core/provider.ts'
import { resolveWithin } from '../core/time.ts'
import { type ErrorReporter, FirstFailureReporter } from '../core/user-functions.ts'

/** Milliseconds that a provider may take for its end when the session closes. */
const CLOSE_TIMEOUT = 30_000

export class SessionProviders {
  /** By provider: ends the subscription to the events of its agents. */
  readonly #unsubscribes = new Map<Provider, () => void>()
  /** One function for all providers: a machine that two providers share is then subscribed to once. */
  readonly #onAgent: (event: AgentEvent) => void
  readonly #report: ErrorReporter

  constructor(onAgent: (event: AgentEvent) => void, report: ErrorReporter) {
    this.#onAgent = onAgent
    this.#report = report
  }

  /** Subscribes to the agents of a provider, at its first service. */
  add(provider: Provider): void {
    if (this.#unsubscribes.has(provider)) return
    const failure = this.#failureReporter(
      'onAgent()',
      provider,
      'no event of its agents is emitted',
    )
    const unsubscribe = failure.runUndoable(() => provider.onAgent?.(this.#onAgent))
    this.#unsubscribes.set(provider, unsubscribe)
  }

  /** Ends all providers. Never rejects: a failure is reported, and the session ends without that provider. */
  async closeAll(): Promise<void> {
    await Promise.all([...this.#unsubscribes.keys()].map((provider) => this.#close(provider)))
    for (const unsubscribe of this.#unsubscribes.values()) unsubscribe()
  }

  /** A provider that a user wrote may throw here, or never come to an end. */
  async #close(provider: Provider): Promise<void> {
    const failure = this.#failureReporter('close()', provider, 'the session ends without it')
    try {
      const closed = Promise.resolve(provider.close?.()).then(() => true)
      if (!(await resolveWithin(CLOSE_TIMEOUT, closed))) failure.reportStall(CLOSE_TIMEOUT)
    } catch (error) {
      failure.reportThrown(error)
    }
  }

  #failureReporter(method: string, { name }: Provider, instead: string): FirstFailureReporter {
    return new FirstFailureReporter({
      what: `${method} of provider ${name}`,
      instead,
      report: this.#report,
    })
  }
}
