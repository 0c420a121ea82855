/** Holds what runs against what the store says: a task that was cancelled, or given to somebody else, is ended. */
import { describe } from '../../core/errors.ts'
import { after, now, type Timer } from '../../core/time.ts'
import type { Store } from '../store/store.ts'
import type { Task } from '../task.ts'
import type { Held, Running } from './held.ts'

/** Tasks that run for longer are looked after. In ms. */
const LOOK_AFTER = 1_000

/** Tasks of one look. */
const MOST = 1_000

/**
 * So long after a runner said that it has them, the store hears of tasks that run: most are over by then, and an outcome
 * names the runner as well. In ms.
 */
const CONFIRMED_AFTER = 500

interface Confirmed {
  readonly clientId: string
  readonly clientHost: string
  readonly tasks: readonly Task[]
  /** On the clock of `now()`. */
  readonly due: number
}

export interface WatchParts {
  readonly store: Store
  readonly held: Held
  /** The server, as it is in the store now. */
  self(): { readonly id: string; readonly host: string }
  problem(message: string): void
}

export class Watch {
  readonly #parts: WatchParts
  /** Runners that the store knows. */
  readonly #clients = new Map<string, Promise<void>>()
  readonly #confirmed: Confirmed[] = []
  #timer: Timer | undefined

  constructor(parts: WatchParts) {
    this.#parts = parts
  }

  /** A runner says that it has these. The store hears of those that are not over soon. */
  confirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    this.#connected(clientId, clientHost).catch((error) => this.#parts.problem(describe(error)))
    this.#confirmed.push({ clientId, clientHost, tasks, due: now() + CONFIRMED_AFTER })
    this.#timer ??= after(CONFIRMED_AFTER, this.#confirmDue)
  }

  /** A runner is gone: what it holds, and nobody has taken back, is nobody's. */
  gone(id: string, isEvicted: boolean): void {
    const { store, problem } = this.#parts
    store.disconnect(id, { isEvicted }).catch((error) => problem(describe(error)))
  }

  readonly #confirmDue = (): void => {
    const at = now()
    let [first] = this.#confirmed
    for (; first && first.due <= at; [first] = this.#confirmed) {
      this.#confirmed.shift()
      void this.#confirm(first)
    }
    this.#timer = first && after(first.due - at, this.#confirmDue)
  }

  close(): void {
    this.#timer?.clear()
  }

  /** Never rejects. */
  async #confirm({ clientId, clientHost, tasks }: Confirmed): Promise<void> {
    const { store, held, problem } = this.#parts
    const running = tasks.filter(({ id, fence }) => held.runs(id)?.task.fence === fence)
    if (running.length === 0) return
    try {
      await this.#connected(clientId, clientHost)
      const claims = running.map(({ id, fence }) => ({ id, fence }))
      const ours = new Set(await store.confirm(clientId, clientHost, claims))
      for (const task of running) {
        if (ours.has(task.id) || !held.runs(task.id)) continue
        // Taken back meanwhile, and not because it has ended already.
        const [found] = await store.find([task.id])
        if (found?.completionTime === null && found.fence === task.fence && found.serverId) continue
        held.runs(task.id)?.carrier.cancel(task)
      }
    } catch (error) {
      problem(describe(error))
    }
  }

  /** Of tasks that run for long (or for `age` ms): does the store still say that they are ours? Never rejects. */
  async lookAfter(age = LOOK_AFTER): Promise<void> {
    const { store, held, self, problem } = this.#parts
    const before = now() - age
    const long: Running[] = []
    for (const one of held.running()) {
      if (one.since > before) break
      long.push(one)
      if (long.length >= MOST) break
    }
    if (long.length === 0) return
    try {
      const found = new Map(
        (await store.find(long.map(({ task }) => task.id))).map((task) => [task.id, task]),
      )
      for (const { task, carrier } of long) {
        if (!held.runs(task.id)) continue
        const known = found.get(task.id)
        const isOurs =
          known?.fence === task.fence && known.exitStatus === null && known.serverId === self().id
        // An outcome that waits to be kept is no reason to end anything.
        if (!isOurs) carrier.cancel(task)
      }
    } catch (error) {
      problem(describe(error))
    }
  }

  /** The server is a new one: its runners are to be made known again. */
  restart(): void {
    this.#clients.clear()
  }

  #connected(id: string, host: string): Promise<void> {
    let known = this.#clients.get(id)
    if (!known) {
      const self = this.#parts.self()
      known = this.#parts.store.connect({ id, host, serverId: self.id, serverHost: self.host })
      this.#clients.set(id, known)
      // Runners come and go for months.
      if (this.#clients.size > 1_000) this.#clients.delete([...this.#clients.keys()][0] as string)
    }
    return known
  }
}
