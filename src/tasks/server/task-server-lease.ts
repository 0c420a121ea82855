/**
 * A server among others on one store: it joins, beats, and gives back what dead ones held. Whether one on this very machine
 * lives is known by its process; any other is known by its silence.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { describeError } from '../../core/errors.ts'
import { every, type Timer } from '../../core/time.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'

export interface TaskServerLeaseParts {
  readonly store: Store
  /** What it works off. */
  readonly serving?: ServedTasks
  /** Milliseconds of silence after which a server is dead. */
  readonly leaseMs: number
  /** It was taken for dead: what it held is somebody else's, and it is a new one now. */
  onEvicted(): void
  /** So many tasks are in the queue again. */
  onRecovered(tasks: number): void
  reportProblem(message: string): void
}

export class TaskServerLease {
  readonly host = hostname()
  readonly #parts: TaskServerLeaseParts
  #id = ''
  #timer: Timer | undefined
  #isRenewing = false

  private constructor(parts: TaskServerLeaseParts) {
    this.#parts = parts
  }

  static async acquire(parts: TaskServerLeaseParts): Promise<TaskServerLease> {
    const life = new TaskServerLease(parts)
    await life.#join(() => {})
    life.#timer = every(Math.max(200, parts.leaseMs / 4), () => void life.renew())
    return life
  }

  get id(): string {
    return this.#id
  }

  /** What it holds goes back to the queue. */
  async release(): Promise<void> {
    this.#timer?.clear()
    LOCAL_SERVER_IDS.delete(this.#id)
    await this.#parts.store.unregisterServer(this.#id)
  }

  /** @param renamed called at once, before anything can be claimed by the new name */
  async #join(renamed: () => void): Promise<void> {
    const { store, serving } = this.#parts
    LOCAL_SERVER_IDS.delete(this.#id)
    this.#id = await store.registerServer(this.host, createServerId(), serving)
    LOCAL_SERVER_IDS.add(this.#id)
    renamed()
    await this.#recover()
  }

  async #recover(): Promise<void> {
    const { store, leaseMs: lease, onRecovered: recovered } = this.#parts
    let tasks = 0
    const alive = [this.#id]
    for (const { id, host } of await store.servers()) {
      if (host !== this.host || id === this.#id) continue
      if (isServerProcessDead(id)) tasks += await store.unregisterServer(id)
      else if (isServerProcessAlive(id)) alive.push(id)
    }
    tasks += (await store.recover(lease, alive)).tasks
    if (tasks > 0) recovered(tasks)
  }

  /** Says that it lives, and looks after those that do not. Never rejects. */
  async renew(): Promise<void> {
    if (this.#isRenewing) return
    this.#isRenewing = true
    const { store, onEvicted: evicted, reportProblem: problem } = this.#parts
    try {
      if (await store.heartbeat(this.#id)) await this.#recover()
      else {
        problem(
          `another server took this one for dead, and its tasks over; it goes on as a new one`,
        )
        await this.#join(evicted)
      }
    } catch (error) {
      problem(describeError(error))
    } finally {
      this.#isRenewing = false
    }
  }
}

/**
 * `name.space.pid.start`: a process that another one of the same machine can look for. The space is that of pids and of
 * this boot; where there is none to be known, there is no such tail.
 */
export function createServerId(pid: number = process.pid): string {
  const name = randomBytes(8).toString('hex')
  const space = readPidNamespace()
  const start = readProcessStat(pid)?.start
  return space && start ? `${name}.${space}.${pid}.${start}` : name
}

/** True only where that is sure. */
export function isServerProcessDead(id: string): boolean {
  const found = findServerProcess(id)
  return found !== undefined && found.state === undefined
}

/**
 * True only where that is sure. A process that is stopped (SIGSTOP) may never go on; in this process there may be servers that
 * failed at their end, so it is silence that tells of these.
 */
export function isServerProcessAlive(id: string): boolean {
  const found = findServerProcess(id)
  if (found?.state === undefined || /^[Tt]$/.test(found.state)) return false
  return found.pid !== process.pid || LOCAL_SERVER_IDS.has(id)
}

/** Servers of this process. */
const LOCAL_SERVER_IDS = new Set<string>()

/** The process that an id names; undefined where it is not one of this machine, or that cannot be known. */
function findServerProcess(
  id: string,
): { readonly pid: number; readonly state?: string } | undefined {
  const [, space, pid, start] = id.split('.')
  if (!space || !pid || !start || space !== readPidNamespace()) return undefined
  const found = readProcessStat(Number(pid))
  return found?.start === start ? { pid: Number(pid), state: found.state } : { pid: Number(pid) }
}

function readPidNamespace(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8)
    return `${boot}-${/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0]}`
  } catch {
    return undefined
  }
}

/** Its state, and when it began, in ticks since the boot: pids are used again, this is not. */
function readProcessStat(
  pid: number,
): { readonly state: string; readonly start: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state = '', ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const start = rest[18]
    return state === 'Z' || state === 'X' || start === undefined ? undefined : { state, start }
  } catch {
    return undefined
  }
}
