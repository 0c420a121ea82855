/**
 * A server among others on one store: it joins, beats, and gives back what dead ones held. One that was killed on this very
 * machine is known at once by its process; any other by its silence.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe } from '../../errors.ts'
import { every, type Timer } from '../../time.ts'
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
    await this.#parts.store.leave(this.#id)
  }

  /** @param renamed called at once, before anything can be claimed by the new name */
  async #join(renamed: () => void): Promise<void> {
    const { store, serving } = this.#parts
    this.#id = await store.join(this.host, processId(), serving)
    renamed()
    await this.#recover()
  }

  async #recover(): Promise<void> {
    const { store, lease, recovered } = this.#parts
    let tasks = 0
    for (const { id, host } of await store.servers()) {
      if (host === this.host && id !== this.#id && isDead(id)) tasks += await store.leave(id)
    }
    tasks += (await store.recover(lease)).tasks
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
  const start = startOf(pid)
  return space && start ? `${name}.${space}.${pid}.${start}` : name
}

/** True only where that is sure. */
export function isDead(id: string): boolean {
  const [, space, pid, start] = id.split('.')
  if (!space || !pid || !start || space !== pidSpace()) return false
  return startOf(Number(pid)) !== start
}

function pidSpace(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8)
    return `${boot}-${/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0]}`
  } catch {
    return undefined
  }
}

/** When a process began, in ticks since the boot: pids are used again, this is not. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}
