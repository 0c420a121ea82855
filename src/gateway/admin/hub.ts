/** The event stream: what happens is told to all readers at once, what it adds up to each second. */
import type { ManyhostError } from '../../errors.ts'
import type { Session } from '../../session.ts'
import { every, now, type Timer, wallClock } from '../../time.ts'
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
  #tickedAt = 0
  #told = 0
  #skipped = 0

  constructor(session: Session, version: string) {
    this.#session = session
    this.#version = version
    this.#offs = [
      session.on('instance', (event) => {
        this.#failures.instance(event)
        this.#tell('instance', event)
      }),
      session.on('cluster', (event) => this.#tell('cluster', event)),
      session.on('resend', (event) => {
        this.#failures.resend(event)
        this.#tell('resend', event)
      }),
      session.on('error', (error) => this.report(error)),
    ]
  }

  /** Tells of an error, the session's or one of the admin API's own work. */
  report(error: ManyhostError): void {
    this.#failures.error(error)
    const { code, message, retryable, service, output } = error
    this.#tell('error', {
      ...(service !== undefined && { service }),
      code,
      message: message.split('\n', 1)[0],
      retryable,
      ...(output && { output: output.slice(-4_000) }),
      at: wallClock(),
    })
  }

  join(reader: Outflow): void {
    if (this.#readers.size === 0) this.#begin()
    this.#readers.add(reader)
    reader.onEnd(() => this.#leave(reader))
    const whole = { at: wallClock(), whole: true, interval: INTERVAL, version: this.#version }
    const { all } = this.#failures
    reader.write(`retry: ${INTERVAL}\n\n`)
    reader.write(frame('snapshot', { ...whole, clusters: this.#rows.all, failures: all }))
  }

  #leave(reader: Outflow): void {
    this.#readers.delete(reader)
    if (this.#readers.size > 0) return
    this.#ticks?.clear()
    this.#ticks = undefined
  }

  #begin(): void {
    this.#rows = new Rows()
    this.#rows.read(this.#session.clusters, 0)
    this.#tickedAt = now()
    this.#ticks = every(INTERVAL, () => this.#tick())
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
    this.#write(frame('snapshot', snapshot))
  }

  /** Hears nothing of the session any more. */
  close(): void {
    for (const off of this.#offs) off()
    this.#ticks?.clear()
    this.#ticks = undefined
  }

  #tell(name: string, data: object): void {
    if (this.#readers.size === 0) return
    if (this.#told >= AT_ONCE) {
      this.#skipped++
      return
    }
    this.#told++
    this.#write(frame(name, data))
  }

  #write(text: string): void {
    for (const reader of [...this.#readers]) reader.write(text)
  }
}

function frame(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
