/** Starts that wait for an agent with free capacity, first come, first served. */
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { StartSpec } from '../../src/core/provider.ts'
import {
  type AgentOffer,
  explainNoPlacement,
  type PlacementRequest,
  pickAgent,
} from './placement.ts'

/** Starts that wait at a time, over all services. More fail at once. */
const MAX_WAITING_STARTS = 10_000

interface WaitingStart<A> {
  readonly request: PlacementRequest
  /** Equal for equal requests. */
  readonly requestKey: string
  assign(agent: A): void
  fail(error: Error): void
}

/** An agent that keeps account of what was assigned to it. */
export interface AssignableAgent extends AgentOffer {
  reserve(id: string, request: PlacementRequest): void
}

export class WaitingStarts<A extends AssignableAgent> {
  readonly #agents: ReadonlyMap<string, A>
  readonly #starts = new Set<WaitingStart<A>>()

  /** @param agents those that are known at the time of each look */
  constructor(agents: ReadonlyMap<string, A>) {
    this.#agents = agents
  }

  get size(): number {
    return this.#starts.size
  }

  /**
   * Resolves with an agent on which the instance is reserved. Writes to the instance's output if it has to wait.
   * @throws ManyhostError MANYHOST_START_FAILED when `signal` is aborted, or when too many starts wait
   */
  waitForAgent(spec: StartSpec, request: PlacementRequest, signal: AbortSignal): Promise<A> {
    const { id } = spec
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(createStartError(spec, 'it was given up', signal.reason))
      if (this.#starts.size >= MAX_WAITING_STARTS) {
        const why = `${MAX_WAITING_STARTS} starts wait for an agent already`
        return reject(createStartError(spec, why))
      }
      const settle = (): void => {
        this.#starts.delete(start)
        signal.removeEventListener('abort', onAbort)
      }
      const start: WaitingStart<A> = {
        request,
        requestKey: JSON.stringify(request),
        assign: (agent) => {
          settle()
          agent.reserve(id, request)
          resolve(agent)
        },
        fail: (error) => {
          settle()
          reject(error)
        },
      }
      const onAbort = (): void => {
        const why = `${describeError(signal.reason)}; ${this.#explainNoAgent(request)}`
        start.fail(createStartError(spec, why, signal.reason))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#starts.add(start)
      this.assignAll()
      if (this.#starts.has(start)) {
        spec.onOutput(`manyhost: waits for an agent: ${this.#explainNoAgent(request)}\n`)
      }
    })
  }

  /** Gives agents to the starts that can have one, the longest waiting first. A start that fits nowhere delays no other. */
  assignAll(): void {
    // When one request fits nowhere, an equal request fits nowhere either, and need not be tried.
    const unplaceable = new Set<string>()
    for (const { request, requestKey, assign } of [...this.#starts]) {
      if (unplaceable.has(requestKey)) continue
      const agent = pickAgent(this.#agents.values(), request)
      if (agent) assign(agent)
      else unplaceable.add(requestKey)
    }
  }

  failAll(error: Error): void {
    for (const { fail } of [...this.#starts]) fail(error)
  }

  #explainNoAgent(request: PlacementRequest): string {
    return `no agent has capacity for it: ${explainNoPlacement(this.#agents.values(), request)}`
  }
}

function createStartError({ id, service }: StartSpec, why: string, cause?: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
    service,
    ...(cause !== undefined && { cause }),
  })
}
