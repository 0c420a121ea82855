/** Names and payloads of the session's events, and the typed emitter. Observers only observe. */

import { describe } from './describe.ts'
import { ManyhostError } from './errors.ts'
import { catchRejection, emitWarning, FirstFailureReporter } from './user-functions.ts'

export type InstanceState =
  | 'pending'
  | 'starting'
  | 'ready'
  | 'unready'
  | 'draining'
  | 'stopped'
  | 'failed'

export interface InstanceEvent {
  readonly service: string
  readonly instance: string
  readonly state: InstanceState
  /** The state before; absent for a new instance. */
  readonly from?: InstanceState
  /** Why, where it is not plain: `killed by SIGKILL`, `health check: 3 failures in a row`. */
  readonly reason?: string
  /** The last lines that it wrote, for `failed`. */
  readonly output?: string
  readonly provider: string
  /** Milliseconds since 1970. */
  readonly at: number
}

export interface ClusterEvent {
  readonly service: string
  readonly change: 'added' | 'resized' | 'failed' | 'closed'
  /** Wanted instances, after the change. */
  readonly size: number
  readonly reason?: string
  readonly at: number
}

export interface RequestEvent {
  readonly service: string
  readonly id: string
  readonly method: string
  readonly path: string
  readonly outcome: Outcome
  /** HTTP status of the answer, or of the error. */
  readonly status: number
  /** Milliseconds from the call to the end of the response's body. */
  readonly duration: number
  readonly attempts: number
  readonly at: number
}

export interface ResendEvent {
  readonly service: string
  readonly id: string
  /** The attempt that failed: 1, 2, ... */
  readonly attempt: number
  readonly instance: string
  readonly reason: string
  readonly at: number
}

/** A machine that runs instances, in the care of an agent. */
export interface AgentEvent {
  readonly agent: string
  readonly change: 'came' | 'returned' | 'leaves' | 'left' | 'evicted'
  readonly reason?: string
  readonly at: number
}

/** The end of one attempt at a task. Its command is not told: it may have secrets in it. */
export interface TaskEvent {
  readonly task: string
  /** 1 for the first. */
  readonly attempt: number
  readonly group: number
  readonly outcome: 'succeeded' | 'failed' | 'cancelled' | 'retried'
  readonly exitStatus: number
  /** Milliseconds that it ran; null for one that never did. */
  readonly duration: number | null
  readonly at: number
}

/** How a request ended. `answered` says nothing of the status: a 500 is an answer. */
export type Outcome = 'answered' | 'failed' | 'aborted' | 'expired' | 'refused'

/** README's table of events is held against this one by a test. */
export interface SessionEvents {
  instance: InstanceEvent
  cluster: ClusterEvent
  request: RequestEvent
  resend: ResendEvent
  agent: AgentEvent
  task: TaskEvent
  error: ManyhostError
}

type Listener<T> = (event: T) => void

/**
 * A typed emitter. Unlike Node's, `error` without a listener does not throw: failures heal, and are also events. A
 * listener that throws, or whose promise is rejected, is reported once, as an event `error`, and changes nothing else.
 * The report is a warning of the process where nobody listens to `error`, or where the listener that failed does.
 */
export class Emitter<Events extends object> {
  readonly #owner: string
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>()
  /** By listener. A listener may hear several events: each failing pair of both is reported. */
  readonly #failuresByListener = new WeakMap<
    Listener<never>,
    Map<keyof Events, FirstFailureReporter>
  >()

  /** @param owner what the listeners were given to, for reports: `session` */
  constructor(owner = 'emitter') {
    this.#owner = owner
  }

  /**
   * Subscribes; the function that is returned unsubscribes.
   * @throws ManyhostError MANYHOST_INVALID_OPTION
   */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    if (typeof listener !== 'function') {
      const text = `on('${String(name)}'): the listener must be a function, got ${describe(listener)}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
    }
    let set = this.#listeners.get(name)
    if (!set) {
      set = new Set()
      this.#listeners.set(name, set)
    }
    set.add(listener as Listener<never>)
    return () => this.off(name, listener)
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    const set = this.#listeners.get(name)
    set?.delete(listener as Listener<never>)
    if (set?.size === 0) this.#listeners.delete(name)
  }

  /** Whether anybody listens: ask before an event is built on the hot path. */
  hasListeners(name: keyof Events): boolean {
    return this.#listeners.has(name)
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const set = this.#listeners.get(name)
    if (!set) return
    for (const listener of [...set] as Listener<Events[Name]>[]) {
      // One that a listener before it has unsubscribed hears nothing any more.
      if (!set.has(listener as Listener<never>)) continue
      try {
        const answer: unknown = listener(event)
        catchRejection(answer, (error) => this.#onListenerFailed(name, listener, event, error))
      } catch (error) {
        this.#onListenerFailed(name, listener, event, error)
      }
    }
  }

  #onListenerFailed(
    name: keyof Events,
    listener: Listener<never>,
    event: unknown,
    error: unknown,
  ): void {
    let failures = this.#failuresByListener.get(listener)
    if (!failures) {
      failures = new Map()
      this.#failuresByListener.set(listener, failures)
    }
    let failure = failures.get(name)
    if (!failure) {
      const { service } = (event ?? {}) as { service?: string }
      const at = service === undefined ? '' : `, at an event of ${service},`
      failure = new FirstFailureReporter({
        what: `a listener of '${String(name)}' of the ${this.#owner}${at}`,
        instead: 'its failure is ignored',
        report: (error) => this.#reportFailure(name, error),
        service,
      })
      failures.set(name, failure)
    }
    failure.reportThrown(error)
  }

  #reportFailure(name: keyof Events, error: ManyhostError): void {
    // An `error` about a listener of `error` could go round for ever.
    const listened = 'error' as keyof Events
    if (name === listened || !this.hasListeners(listened)) emitWarning(error)
    else this.emit(listened, error as Events[keyof Events])
  }
}
