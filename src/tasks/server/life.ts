/**
 * A server among others on one store: it joins, beats, and gives back what dead ones held. Whether one on this very machine
 * lives is known by its process; any other is known by its silence.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe } from '../../core/errors.ts'
import { every, type Timer } from '../../core/time.ts'
import type { Serving } from '../store/servers.ts'
import type { Store } from '../store/store.ts'

export interface LifeParts {
  readonly store: Store
  /** What it works off. */
  readonly serving?: Serving
  /** Milliseconds of silence after which a server is dead. */
  readonly lease: number
  /** It was taken for dead: what it held is somebody else's, and it is a new one now. */
  evicted(): void
  /** So many tasks are in the queue again. */
  recovered(tasks: number): void
  problem(message: string): void
}

export class Life {
  readonly host = hostname()
  readonly #parts: LifeParts
  #id = ''
  #timer: Timer | undefined
  #beating = false

  private constructor(parts: LifeParts) {
    this.#parts = parts
  }

  static async begin(parts: LifeParts): Promise<Life> {
    const life = new Life(parts)
    await life.#join(() => {})
    life.#timer = every(Math.max(200, parts.lease / 4), () => void life.beat())
    return life
  }

  get id(): string {
    return this.#id
  }

  /** What it holds goes back to the queue. */
  async end(): Promise<void> {
    this.#timer?.clear()
    OWN.delete(this.#id)
    await this.#parts.store.leave(this.#id)
  }

  /** @param renamed called at once, before anything can be claimed by the new name */
  async #join(renamed: () => void): Promise<void> {
    const { store, serving } = this.#parts
    OWN.delete(this.#id)
    this.#id = await store.join(this.host, processId(), serving)
    OWN.add(this.#id)
    renamed()
    await this.#recover()
  }

  async #recover(): Promise<void> {
    const { store, lease, recovered } = this.#parts
    let tasks = 0
    const alive = [this.#id]
    for (const { id, host } of await store.servers()) {
      if (host !== this.host || id === this.#id) continue
      if (isDead(id)) tasks += await store.leave(id)
      else if (isAlive(id)) alive.push(id)
    }
    tasks += (await store.recover(lease, alive)).tasks
    if (tasks > 0) recovered(tasks)
  }

  /** Says that it lives, and looks after those that do not. Never rejects. */
  async beat(): Promise<void> {
    if (this.#beating) return
    this.#beating = true
    const { store, evicted, problem } = this.#parts
    try {
      if (await store.beat(this.#id)) await this.#recover()
      else {
        problem(
          `another server took this one for dead, and its tasks over; it goes on as a new one`,
        )
        await this.#join(evicted)
      }
    } catch (error) {
      problem(describe(error))
    } finally {
      this.#beating = false
    }
  }
}

/**
 * `name.space.pid.start`: a process that another one of the same machine can look for. The space is that of pids and of
 * this boot; where there is none to be known, there is no such tail.
 */
export function processId(pid: number = process.pid): string {
  const name = randomBytes(8).toString('hex')
  const space = pidSpace()
  const start = statOf(pid)?.start
  return space && start ? `${name}.${space}.${pid}.${start}` : name
}

/** True only where that is sure. */
export function isDead(id: string): boolean {
  const found = processOf(id)
  return found !== undefined && found.state === undefined
}

/**
 * True only where that is sure. A process that is stopped (SIGSTOP) may never go on; in this process there may be servers that
 * failed at their end, so it is silence that tells of these.
 */
export function isAlive(id: string): boolean {
  const found = processOf(id)
  if (found?.state === undefined || /^[Tt]$/.test(found.state)) return false
  return found.pid !== process.pid || OWN.has(id)
}

/** Servers of this process. */
const OWN = new Set<string>()

/** The process that an id names; undefined where it is not one of this machine, or that cannot be known. */
function processOf(id: string): { readonly pid: number; readonly state?: string } | undefined {
  const [, space, pid, start] = id.split('.')
  if (!space || !pid || !start || space !== pidSpace()) return undefined
  const found = statOf(Number(pid))
  return found?.start === start ? { pid: Number(pid), state: found.state } : { pid: Number(pid) }
}

function pidSpace(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8)
    return `${boot}-${/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0]}`
  } catch {
    return undefined
  }
}

/** Its state, and when it began, in ticks since the boot: pids are used again, this is not. */
function statOf(pid: number): { readonly state: string; readonly start: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state = '', ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const start = rest[18]
    return state === 'Z' || state === 'X' || start === undefined ? undefined : { state, start }
  } catch {
    return undefined
  }
}
