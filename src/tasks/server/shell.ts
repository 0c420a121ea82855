/** Shell tasks go to runners, instances of an ordinary service, in bundles; each answer tells of many tasks. */
import type { Client } from '../../client/client.ts'
import type { Response } from '../../client/response.ts'
import type { Cluster } from '../../cluster/cluster.ts'
import { asError, describe, ManyhostError } from '../../core/errors.ts'
import { after, type Timer, wallClock } from '../../core/time.ts'
import type { Candidate, Pick } from '../../dispatch/balance.ts'
import {
  type BundleOptions,
  bundleLines,
  type Message,
  type RunOutcome,
  readAnswer,
} from '../runner/protocol.ts'
import type { Task } from '../task.ts'
import type { Books, Seen } from './books.ts'
import type { Carrier, Desk } from './carrier.ts'

/** Losses of its runner after which a task is taken for their cause. */
const MOST_LOSSES = 5
/** From so many on it goes alone, one such at a time. */
const SUSPECT = 2

/** Wait after a bundle that failed for another reason than its runner's death, in ms. */
const PAUSE = 1_000

/** Of a task whose runner was lost each time: as of one that the kernel killed. */
const LOST = 137

export interface ShellParts {
  readonly url: string
  readonly token: string | undefined
  readonly client: Client
  /** Undefined until there is need of it. */
  readonly cluster: () => Cluster | undefined
  /** There is need of it. @throws ManyhostError where runners cannot be started */
  readonly open: () => void
  readonly books: Books
  readonly bundle: BundleOptions
  readonly bundleSize: number
  readonly priority: number
}

/** A POST under way. */
interface Trip {
  readonly left: Map<string, Task>
  readonly tasks: readonly Task[]
  readonly controller: AbortController
  /** The runner's instance, once it has answered. */
  at: string | undefined
  isSuspect: boolean
}

export class Shell implements Carrier {
  readonly kind = 'shell'
  readonly #parts: ShellParts
  readonly #desk: Desk
  readonly #trips = new Set<Trip>()
  readonly #losses = new Map<string, number>()
  readonly #suspects: Task[] = []
  readonly #cancelled = new Set<string>()
  #pause: Timer | undefined
  /** The instance that the next pick of the queue is to be. */
  #wanted: string | undefined
  #isStopped = false

  constructor(parts: ShellParts, desk: Desk) {
    this.#parts = parts
    this.#desk = desk
  }

  room(): number {
    if (this.#pause || this.#isStopped) return 0
    const { books, bundleSize, cluster } = this.#parts
    const known = cluster()
    const ready = known?.instances.filter(({ state }) => state === 'ready') ?? []
    // One bundle waits where nobody is there to take it: that is what calls a runner up.
    if (!known || ready.length === 0) return books.waiting > 0 ? 0 : 1
    const { settings } = known
    const fits = ({ id, inFlight }: { id: string; inFlight: number }): boolean =>
      inFlight < settings.concurrency && books.roomOf(id) > 0
    const best = ready[books.best(ready, fits)]
    // What is announced goes to whom the queue picks: until then nobody knows how much room is left.
    if (!best || books.waiting >= ready.length) return 0
    return Math.min(bundleSize, Math.max(0, books.roomOf(best.id)))
  }

  take(tasks: readonly Task[]): void {
    try {
      this.#parts.open()
    } catch (error) {
      for (const task of tasks) this.#desk.returned(task)
      return this.#desk.failed(asError(error))
    }
    const plain = tasks.filter(({ id }) => (this.#losses.get(id) ?? 0) < SUSPECT)
    if (plain.length < tasks.length) {
      this.#suspects.push(...tasks.filter((task) => !plain.includes(task)))
      this.#tryNext()
    }
    if (plain.length > 0) void this.#send(plain, false)
  }

  cancel(task: Task): void {
    this.#cancelled.add(task.id)
    const trip = [...this.#trips].find(({ left }) => left.get(task.id)?.fence === task.fence)
    if (trip) void this.#tell(task, trip.at)
  }

  stop(): void {
    this.#isStopped = true
    this.#pause?.clear()
    for (const task of this.#suspects.splice(0)) this.#desk.returned(task)
    for (const { controller } of this.#trips) controller.abort(new Error('the server stops'))
  }

  #tryNext(): void {
    if ([...this.#trips].some(({ isSuspect }) => isSuspect)) return
    const task = this.#suspects.shift()
    if (task) void this.#send([task], true)
  }

  async #send(tasks: readonly Task[], isSuspect: boolean): Promise<void> {
    const { client, url, token, bundle, priority, books } = this.#parts
    const left = new Map(tasks.map((task) => [task.id, task]))
    const controller = new AbortController()
    const trip: Trip = { left, tasks, controller, at: undefined, isSuspect }
    this.#trips.add(trip)
    books.announce(tasks.length)
    let isLost = false
    try {
      const response = await client.post(`${url}/tasks`, {
        body: [...bundleLines(bundle, tasks)].join(''),
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        priority,
        resend: 'never',
        timeout: 0,
        signal: controller.signal,
      })
      trip.at = response.timing?.instance ?? ''
      if (response.status !== 200) {
        books.missed(trip.at, tasks.length)
        await this.#refused(response)
      } else {
        isLost = true
        await this.#read(response, trip)
        isLost = false
      }
    } catch (error) {
      this.#failed(error, trip)
    }
    this.#trips.delete(trip)
    this.#close(trip, isLost && !controller.signal.aborted && !this.#isStopped)
    if (isSuspect) this.#tryNext()
    this.#desk.moved()
  }

  async #read(response: Response, trip: Trip): Promise<void> {
    const { tasks } = trip
    const at = trip.at as string
    const body = response.body as unknown as AsyncIterable<Uint8Array>
    for await (const message of readAnswer(body)) {
      switch (message.is) {
        case 'hello':
          this.#parts.books.hello(at, tasks.length, message.hello.places)
          this.#desk.confirmed(message.hello.clientId, message.hello.clientHost, tasks)
          this.#desk.moved()
          break
        case 'stdout':
        case 'stderr':
        case 'csv': {
          const task = tasks[message.index]
          if (task) await this.#desk.output(task, message.is, message.data)
          break
        }
        default:
          this.#note(message, trip)
      }
    }
  }

  #note(message: Message, trip: Trip): void {
    const { books } = this.#parts
    if (message.is === 'outcomes') {
      for (const outcome of message.outcomes) this.#settle(trip, outcome)
      this.#desk.moved()
    } else if (message.is === 'returned') {
      for (const { id } of message.tasks) {
        const task = trip.left.get(id)
        if (!task) continue
        trip.left.delete(id)
        books.ended(trip.at as string)
        this.#desk.returned(task)
      }
    } else if (message.is === 'refused') {
      const task = trip.tasks[message.index]
      if (!task || !trip.left.delete(task.id)) return
      books.ended(trip.at as string)
      this.#desk.settled(task, unrun(task, -3), message.message)
    }
  }

  #settle(trip: Trip, outcome: RunOutcome): void {
    const task = trip.left.get(outcome.id)
    if (!task) return
    const { books } = this.#parts
    const { message, interrupted, ...plain } = outcome
    trip.left.delete(task.id)
    books.ended(trip.at as string)
    this.#losses.delete(task.id)
    // The runner was told to stop: that says nothing of the task.
    if (interrupted === 'stopped') return this.#desk.returned(task)
    this.#cancelled.delete(task.id)
    if (plain.startTime !== null && !interrupted) {
      books.took(plain.completionTime - plain.startTime)
    }
    this.#desk.settled(task, plain, message)
  }

  /** The answer has ended: who has no outcome yet goes to another runner. */
  #close(trip: Trip, isLost: boolean): void {
    const { books } = this.#parts
    for (const task of trip.left.values()) {
      if (trip.at !== undefined) books.ended(trip.at)
      this.#cancelled.delete(task.id)
      const losses = (this.#losses.get(task.id) ?? 0) + (isLost ? 1 : 0)
      if (losses < MOST_LOSSES) {
        if (isLost) this.#losses.set(task.id, losses)
        this.#desk.returned(task)
        continue
      }
      this.#losses.delete(task.id)
      const why = `its runner was lost ${losses} times while it had the task`
      this.#desk.settled(task, unrun(task, LOST), why)
    }
    trip.left.clear()
    // Tasks that somebody else ended meanwhile are not heard of again.
    if (this.#losses.size > 100_000) this.#losses.clear()
  }

  async #refused(response: Response): Promise<void> {
    const said = (await response.text()).slice(0, 300)
    const text = `a runner answered ${response.status}: ${said}`
    if (response.status === 401 || response.status === 400 || response.status === 404) {
      return this.#desk.failed(new ManyhostError('MANYHOST_BAD_STATUS', text))
    }
    this.#rest(text)
  }

  #failed(error: unknown, { at, tasks, controller }: Trip): void {
    if (at === undefined) this.#parts.books.withdraw(tasks.length)
    if (controller.signal.aborted || this.#isStopped) return
    // A runner that died is replaced; what else keeps bundles away is told.
    if (at === undefined) this.#rest(describe(error))
  }

  #rest(text: string): void {
    if (this.#isStopped || this.#pause) return
    this.#desk.problem(text)
    this.#pause = after(PAUSE, () => {
      this.#pause = undefined
      this.#desk.moved()
    })
  }

  /** Asks runners to end a task: first who has it, by our books, then whoever the queue gives. */
  async #tell(task: Task, at: string | undefined): Promise<void> {
    const { client, url, token, priority, cluster } = this.#parts
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const path = `${url}/tasks/${encodeURIComponent(task.id)}?fence=${task.fence}`
    const tries = 2 * Math.max(1, cluster()?.instances.length ?? 0)
    for (let i = 0; i < tries && this.#cancelled.has(task.id); i++) {
      try {
        // The queue picks at once where there is a place, and there nearly always is.
        this.#wanted = at
        const answer = client.delete(path, { headers, priority: -priority, resend: 'never' })
        this.#wanted = undefined
        const response = await answer
        await response.text()
        if (response.status === 200) break
      } catch (error) {
        this.#desk.problem(`cancelling ${task.id}: ${describe(error)}`)
        break
      }
    }
    this.#cancelled.delete(task.id)
  }

  /** The queue's choice for bundles: who has the most room by our books, and that is what their sizes were made for. */
  readonly pick: Pick = (targets, { turn }) => {
    const { books } = this.#parts
    const fits = ({ open, inFlight, places }: Candidate): boolean => open && inFlight < places
    if (this.#wanted !== undefined) {
      const at = targets.findIndex((one) => one.id === this.#wanted && fits(one))
      if (at >= 0) return at
    }
    const at = books.best(targets, fits as (one: Seen) => boolean, turn % targets.length)
    const target = targets[at]
    if (target) books.picked(target.id)
    return at
  }
}

function unrun({ id, fence }: Task, exitStatus: number) {
  return {
    id,
    fence,
    exitStatus,
    command: null,
    clientId: null,
    clientHost: null,
    startTime: null,
    completionTime: wallClock(),
  }
}
