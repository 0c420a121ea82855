/**
 * The event stream: what happens is told to all readers at once, in the messages that a feed would carry; what it adds
 * up to, each second.
 */
import type { ManyhostError } from '../../core/errors.ts'
import { every, now, type Timer, wallClock } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { formatSessionError, forwardSessionEvents } from '../../session/session-messages.ts'
import { ClusterRows } from './cluster-rows.ts'
import { RecentFailures } from './recent-failures.ts'
import type { AdminStreamWriter } from './stream-writer.ts'

/** Between two snapshots, which are the heartbeat as well, in ms. */
const SNAPSHOT_INTERVAL = 1_000
/** Events between two snapshots that are told one by one; a fleet that starts has tens of thousands. */
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

  /** Tells of an error of the admin API's own work. */
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
    // Only while somebody reads: telling of requests costs each of them a little.
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

  /** Hears nothing of the session any more. */
  close(): void {
    for (const off of this.#unsubscribers) off()
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
