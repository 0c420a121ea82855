/** The instances of an agent: at most as many as it may have, each one ended when it is removed. */
import { deferred } from '../../src/core/deferred.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Provider } from '../../src/core/provider.ts'
import { AgentInstance, type HubReporter } from './agent-instance.ts'

export interface AgentInstancesOptions {
  /** Name of the agent, for messages. */
  readonly agent: string
  readonly maxInstances: number
  readonly provider: Provider
  readonly reporter: HubReporter
  readonly notify: (what: 'started' | 'stopped', detail: string) => void
  /** Called with each number of instances that is new. */
  readonly onCount: (count: number) => void
}

export class AgentInstances {
  readonly #options: AgentInstancesOptions
  readonly #byId = new Map<string, AgentInstance>()
  /** Settled when the last instance is removed. */
  #emptied = deferred<void>()

  constructor(options: AgentInstancesOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#byId.size
  }

  get ids(): string[] {
    return [...this.#byId.keys()]
  }

  list(): AgentInstance[] {
    return [...this.#byId.values()]
  }

  /** @throws ManyhostError MANYHOST_INSTANCE_ENDED */
  get(id: string): AgentInstance {
    const instance = this.#byId.get(id)
    if (instance) return instance
    const message = `agent ${this.#options.agent} has no instance ${id}`
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', message)
  }

  /**
   * Resolves with the address of the instance.
   * @param message the spec, as the hub has sent it
   * @throws ManyhostError MANYHOST_START_FAILED
   */
  async start(message: Record<string, unknown>, id: string): Promise<string> {
    const { agent, maxInstances, provider, reporter, notify } = this.#options
    const refusal = this.#byId.has(id)
      ? 'it has an instance of that id'
      : this.#byId.size >= maxInstances
        ? `it has ${maxInstances} instances already, which is its maxInstances`
        : undefined
    if (refusal !== undefined) throw createRefusedStartError(id, agent, refusal)
    const instance = new AgentInstance(id, reporter)
    this.#byId.set(id, instance)
    this.#options.onCount(this.size)
    try {
      const address = await instance.start(message, provider)
      notify('started', `${id} at ${address}`)
      return address
    } catch (error) {
      this.remove(instance)
      throw error
    }
  }

  /** Does nothing if there is no instance of that id. */
  async stop(id: string, grace: number): Promise<void> {
    const instance = this.#byId.get(id)
    if (instance) await this.#stopAndRemove(instance, grace)
  }

  async stopAll(grace: number): Promise<void> {
    await Promise.all(this.list().map((instance) => this.#stopAndRemove(instance, grace)))
  }

  /** Ends the instances that the hub does not know, or has started elsewhere meanwhile. */
  async stopUnknown(known: ReadonlySet<string>): Promise<void> {
    const unknown = this.list().filter(({ id, exit }) => !known.has(id) && !exit)
    if (unknown.length > 0) {
      this.#options.notify('stopped', `${unknown.length} instances that the hub does not know`)
    }
    await Promise.all(unknown.map((instance) => this.#stopAndRemove(instance, 0)))
  }

  async #stopAndRemove(instance: AgentInstance, grace: number): Promise<void> {
    await instance
      .stop(grace)
      .catch((error) => this.#options.notify('stopped', describeError(error)))
    this.remove(instance)
  }

  remove(instance: AgentInstance): void {
    if (this.#byId.get(instance.id) !== instance) return
    this.#byId.delete(instance.id)
    this.#options.onCount(this.size)
    if (this.size > 0) return
    this.#emptied.resolve()
    this.#emptied = deferred()
  }

  async waitUntilEmpty(): Promise<void> {
    if (this.size > 0) await this.#emptied.promise
  }
}

export function createRefusedStartError(id: string, agent: string, why: string): ManyhostError {
  return new ManyhostError(
    'MANYHOST_START_FAILED',
    `instance ${id} was not started by agent ${agent}: ${why}`,
  )
}
