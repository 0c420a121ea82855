/**
 * The event stream: what happens is told to all readers at once, in the messages that a feed would carry; what it adds
 * up to, each second.
 */
import type { ManyhostError } from '../../core/errors.ts'
import { every, now, type Timer, wallClock } from '../../core/time.ts'
import { errorMessage, tellEvents } from '../../session/messages.ts'
import type { Session } from '../../session/session.ts'
import { Failures } from './failures.ts'
import type { Outflow } from './outflow.ts'
import { Rows } from './rows.ts'

/** Between two snapshots, which are the heartbeat as well, in ms. */
const INTERVAL = 1_000
/** Events between two snapshots that are told one by one; a fleet that starts has tens of thousands. */
const AT_ONCE = 500

export class Hub {
  readonly #session: Session
  readonly #version: string
  readonly #readers = new Set<Outflow>()
  readonly #failures = new Failures()
  readonly #offs: readonly (() => void)[]
  #rows = new Rows()
  #ticks: Timer | undefined
  #endTelling = (): void => undefined
  #tickedAt = 0
  #told = 0
  #skipped = 0

  constructor(session: Session, version: string) {
    this.#session = session
    this.#version = version
    this.#offs = [
      session.on('instance', (event) => this.#failures.instance(event)),
      session.on('resend', (event) => this.#failures.resend(event)),
      session.on('error', (error) => this.#failures.error(error)),
    ]
  }

  /** Tells of an error of the admin API's own work. */
  report(error: ManyhostError): void {
    this.#failures.error(error)
    this.#tell('error', errorMessage(error))
  }

  join(reader: Outflow): void {
    if (this.#readers.size === 0) this.#begin()
    this.#readers.add(reader)
    reader.onEnd(() => this.#leave(reader))
    const whole = { at: wallClock(), whole: true, interval: INTERVAL, version: this.#version }
    const { all } = this.#failures
    reader.write(`retry: ${INTERVAL}\n\n`)
    const snapshot = { ...whole, clusters: this.#rows.all, failures: all }
    reader.write(frame('snapshot', JSON.stringify(snapshot)))
  }

  #leave(reader: Outflow): void {
    this.#readers.delete(reader)
    if (this.#readers.size > 0) return
    this.#end()
  }

  #end(): void {
    this.#ticks?.clear()
    this.#ticks = undefined
    this.#endTelling()
  }

  #begin(): void {
    this.#rows = new Rows()
    this.#rows.read(this.#session.clusters, 0)
    this.#tickedAt = now()
    this.#ticks = every(INTERVAL, () => this.#tick())
    // Only while somebody reads: telling of requests costs each of them a little.
    this.#endTelling = tellEvents(this.#session, (event, text) => this.#tell(event, text))
  }

  #tick(): void {
    const { clusters, gone } = this.#rows.read(
      this.#session.clusters,
      (now() - this.#tickedAt) / 1_000,
    )
    this.#tickedAt = now()
    const failures = this.#failures.takeFresh()
    const snapshot = {
      at: wallClock(),
      clusters,
      ...(gone.length > 0 && { gone }),
      ...(failures.length > 0 && { failures }),
      ...(this.#skipped > 0 && { skipped: this.#skipped }),
    }
    this.#told = 0
    this.#skipped = 0
    this.#write(frame('snapshot', JSON.stringify(snapshot)))
  }

  /** Hears nothing of the session any more. */
  close(): void {
    for (const off of this.#offs) off()
    this.#end()
  }

  #tell(name: string, message: string): void {
    if (this.#readers.size === 0) return
    if (this.#told >= AT_ONCE) {
      this.#skipped++
      return
    }
    this.#told++
    this.#write(frame(name, message))
  }

  #write(text: string): void {
    for (const reader of [...this.#readers]) reader.write(text)
  }
}

function frame(event: string, json: string): string {
  return `event: ${event}\ndata: ${json}\n\n`
}
