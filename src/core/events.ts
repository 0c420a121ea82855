/** Names and data of the session's events, and the typed emitter. Listeners only observe. */

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
  /** Why the state has changed, where that is not obvious: `killed by SIGKILL`, `health check: 3 failures in a row`. */
  readonly reason?: string
  /** The last lines of its output, for `failed`. */
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
  /** HTTP status of the response, or of the error. */
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

/** An agent: a program on another machine that runs instances there. */
export interface AgentEvent {
  readonly agent: string
  readonly change: 'came' | 'returned' | 'leaves' | 'left' | 'evicted'
  readonly reason?: string
  readonly at: number
}

/** The end of one attempt of a task. The command is left out, as it may contain secrets. */
export interface TaskEvent {
  readonly task: string
  /** 1 for the first. */
  readonly attempt: number
  readonly group: number
  readonly outcome: 'succeeded' | 'failed' | 'cancelled' | 'retried'
  readonly exitStatus: number
  /** Milliseconds that it ran; null if it never ran. */
  readonly duration: number | null
  readonly at: number
}

/** How a request ended. `answered` says nothing about the status: a 500 is an answer. */
export type Outcome = 'answered' | 'failed' | 'aborted' | 'expired' | 'refused'

/** A test compares README's table of events with this one. */
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
 * A typed emitter. Unlike Node's, it does not throw at an `error` without a listener, because most failures heal by
 * themselves. If a listener throws, or its promise rejects, this is reported once, as an event `error`, and changes nothing
 * else. The report is a warning of the process if `error` has no listener, or if a listener of `error` has failed.
 */
export class Emitter<Events extends object> {
  readonly #owner: string
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>()
  /** By listener, then by event. A listener of several events is reported once for each of them. */
  readonly #failuresByListener = new WeakMap<
    Listener<never>,
    Map<keyof Events, FirstFailureReporter>
  >()

  /** @param owner the object that has the listeners, for reports: `session` */
  constructor(owner = 'emitter') {
    this.#owner = owner
  }

  /**
   * Subscribes to an event.
   * @returns a function that unsubscribes
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

  /** Whether an event has a listener. On the hot path, ask this before the event is built. */
  hasListeners(name: keyof Events): boolean {
    return this.#listeners.has(name)
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const set = this.#listeners.get(name)
    if (!set) return
    for (const listener of [...set] as Listener<Events[Name]>[]) {
      // An earlier listener may have unsubscribed this one.
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
    // An event `error` about a listener of `error` could repeat for ever.
    const listened = 'error' as keyof Events
    if (name === listened || !this.hasListeners(listened)) emitWarning(error)
    else this.emit(listened, error as Events[keyof Events])
  }
}
