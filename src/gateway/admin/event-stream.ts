/**
 * The event stream of the admin API. Its readers get each event at once, as the JSON message that the feed has for it, and
 * every second a snapshot of what has changed.
 */
import type { ManyhostError } from '../../core/errors.ts'
import { every, now, type Timer, wallClock } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { formatSessionError, forwardSessionEvents } from '../../session/session-messages.ts'
import { ClusterRows } from './cluster-rows.ts'
import { RecentFailures } from './recent-failures.ts'
import type { AdminStreamWriter } from './stream-writer.ts'

/** Milliseconds between two snapshots, which are the heartbeat as well. */
const SNAPSHOT_INTERVAL = 1_000
/** Events that are sent between two snapshots. A large fleet that starts emits tens of thousands. */
const MAX_EVENTS_PER_SNAPSHOT = 500

export class AdminEventStream {
  readonly #session: SessionCore
  readonly #version: string
  readonly #readers = new Set<AdminStreamWriter>()
  readonly #failures = new RecentFailures()
  readonly #unsubscribers: readonly (() => void)[]
  #rows = new ClusterRows()
  #ticks: Timer | undefined
  #stopEvents = (): void => undefined
  #tickedAt = 0
  #sentCount = 0
  #skippedCount = 0

  constructor(session: SessionCore, version: string) {
    this.#session = session
    this.#version = version
    this.#unsubscribers = [
      session.on('instance', (event) => this.#failures.addInstanceFailure(event)),
      session.on('resend', (event) => this.#failures.addResend(event)),
      session.on('error', (error) => this.#failures.addError(error)),
    ]
  }

  /** Reports an error of the admin API itself. */
  report(error: ManyhostError): void {
    this.#failures.addError(error)
    this.#sendEvent('error', formatSessionError(error))
  }

  addReader(reader: AdminStreamWriter): void {
    if (this.#readers.size === 0) this.#begin()
    this.#readers.add(reader)
    reader.onEnd(() => this.#removeReader(reader))
    const whole = {
      at: wallClock(),
      whole: true,
      interval: SNAPSHOT_INTERVAL,
      version: this.#version,
    }
    const { all } = this.#failures
    reader.write(`retry: ${SNAPSHOT_INTERVAL}\n\n`)
    const snapshot = { ...whole, clusters: this.#rows.all, failures: all }
    reader.write(formatEvent('snapshot', JSON.stringify(snapshot)))
  }

  #removeReader(reader: AdminStreamWriter): void {
    this.#readers.delete(reader)
    if (this.#readers.size > 0) return
    this.#end()
  }

  #end(): void {
    this.#ticks?.clear()
    this.#ticks = undefined
    this.#stopEvents()
  }

  #begin(): void {
    this.#rows = new ClusterRows()
    this.#rows.read(this.#session.clusters, 0)
    this.#tickedAt = now()
    this.#ticks = every(SNAPSHOT_INTERVAL, () => this.#tick())
    // Only while there are readers: each request event costs a little time.
    this.#stopEvents = forwardSessionEvents(this.#session, (event, text) =>
      this.#sendEvent(event, text),
    )
  }

  #tick(): void {
    const { clusters, gone } = this.#rows.read(
      this.#session.clusters,
      (now() - this.#tickedAt) / 1_000,
    )
    this.#tickedAt = now()
    const failures = this.#failures.takeNew()
    const snapshot = {
      at: wallClock(),
      clusters,
      ...(gone.length > 0 && { gone }),
      ...(failures.length > 0 && { failures }),
      ...(this.#skippedCount > 0 && { skipped: this.#skippedCount }),
    }
    this.#sentCount = 0
    this.#skippedCount = 0
    this.#write(formatEvent('snapshot', JSON.stringify(snapshot)))
  }

  /** Stops listening to the session. */
  close(): void {
    for (const unsubscribe of this.#unsubscribers) unsubscribe()
    this.#end()
  }

  #sendEvent(name: string, message: string): void {
    if (this.#readers.size === 0) return
    if (this.#sentCount >= MAX_EVENTS_PER_SNAPSHOT) {
      this.#skippedCount++
      return
    }
    this.#sentCount++
    this.#write(formatEvent(name, message))
  }

  #write(text: string): void {
    for (const reader of [...this.#readers]) reader.write(text)
  }
}

function formatEvent(event: string, json: string): string {
  return `event: ${event}\ndata: ${json}\n\n`
}
