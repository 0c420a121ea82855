/** An agent as the hub knows it: what it offers, what of that is reserved, and its link, which may be cut and come back. */
import { ManyhostError } from '../../src/core/errors.ts'
import { after, now, type Timer, wallClock } from '../../src/core/time.ts'
import { code, type PostingEnd } from '../../src/wire/index.ts'
import type { HostedInstance } from './hosted-instance.ts'
import type { AgentOffer, PlacementRequest } from './placement.ts'

/** What an agent says of itself in its first message. */
export interface AgentInfo {
  /** Made by each start of an agent anew. It is a secret between the agent and the hub. */
  readonly bootId: string
  readonly name: string
  readonly maxInstances: number
  readonly cpus: number
  /** Bytes. */
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  /** Name of the provider that the agent itself uses. */
  readonly provider: string
}

/** What people may see of an agent. */
export interface AgentStatus {
  readonly name: string
  readonly state: 'up' | 'away' | 'leaving'
  readonly maxInstances: number
  readonly cpus: number
  /** Bytes. */
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly provider: string
  readonly load: number
  /** Ids of its instances. */
  readonly instances: readonly string[]
  /** Address from which the agent dialled. */
  readonly address: string | undefined
  /** Milliseconds since 1970. */
  readonly since: number
}

export interface AgentLeases {
  /** Milliseconds of silence after which an agent is evicted. */
  readonly evictAfter: number
  /** Milliseconds that an agent has to return when its link was cut. */
  readonly returnWithin: number
}

/** How an agent has gone: it said goodbye, or it was not heard of any more. */
export type AgentDeparture = 'left' | 'evicted'
type OnAgentGone = (agent: AgentConnection, how: AgentDeparture, why: string) => void

export class AgentConnection implements AgentOffer {
  readonly info: AgentInfo
  /** The name by which the agent's key was found, where each agent has its own key. */
  readonly ident: string | undefined
  /** Part of each message of the agent. An agent that was evicted and does not know it sends an older number. */
  readonly fence: number
  readonly instances = new Map<string, HostedInstance>()
  load = 0
  readonly #since = wallClock()
  readonly #reservations = new Map<string, PlacementRequest>()
  #reserved = { instances: 0, cpus: 0, memory: 0 }
  readonly #leases: AgentLeases
  readonly #onAgentGone: OnAgentGone
  #po: PostingEnd | undefined
  #isReady = false
  #leaveReason: string | undefined
  #isGone = false
  #lastHeardAt = now()
  #returnTimer: Timer | undefined

  constructor(
    info: AgentInfo,
    ident: string | undefined,
    fence: number,
    leases: AgentLeases,
    onAgentGone: OnAgentGone,
  ) {
    this.info = info
    this.ident = ident
    this.fence = fence
    this.#leases = leases
    this.#onAgentGone = onAgentGone
  }

  get name(): string {
    return this.info.name
  }

  get isGone(): boolean {
    return this.#isGone
  }

  get isUp(): boolean {
    return this.#po !== undefined
  }

  get isOpen(): boolean {
    return this.#isReady && this.#po !== undefined && this.#leaveReason === undefined
  }

  get maxInstances(): number {
    return this.info.maxInstances
  }

  get cpus(): number {
    return this.info.cpus
  }

  get memory(): number {
    return this.info.memory
  }

  get labels(): Readonly<Record<string, string>> {
    return this.info.labels
  }

  get capabilities(): ReadonlySet<string> {
    return this.info.capabilities
  }

  /** A stored sum, because each placement reads it of all agents. */
  get reserved(): { readonly instances: number; readonly cpus: number; readonly memory: number } {
    return this.#reserved
  }

  get status(): AgentStatus {
    const { name, maxInstances, cpus, memory, labels, provider } = this.info
    return {
      name,
      state: this.#leaveReason !== undefined ? 'leaving' : this.isOpen ? 'up' : 'away',
      maxInstances,
      cpus,
      memory,
      labels,
      provider,
      load: this.load,
      instances: [...this.instances.values()]
        .filter(({ hasEnded }) => !hasEnded)
        .map(({ id }) => id),
      address: this.#po?.remoteAddr,
      since: this.#since,
    }
  }

  reserve(id: string, request: PlacementRequest): void {
    this.#reservations.set(id, request)
    this.#sumReservations()
  }

  release(id: string): void {
    this.#reservations.delete(id)
    this.instances.delete(id)
    this.#sumReservations()
  }

  /** Adds up all reservations each time: a sum of fractions that is only changed by differences would drift. */
  #sumReservations(): void {
    let [cpus, memory] = [0, 0]
    for (const request of this.#reservations.values()) {
      cpus += request.cpus
      memory += request.memory
    }
    this.#reserved = { instances: this.#reservations.size, cpus, memory }
  }

  /** The agent has come, or returned, over this link. A link that it had before is ended. */
  attach(po: PostingEnd): void {
    const old = this.#po
    this.#po = po
    this.#isReady = false
    this.#returnTimer?.clear()
    this.markHeard()
    void old?.disconnect('its agent has come again')
  }

  /** The hub has heard all that happened while the agent was away, so the agent may get new instances. */
  markReady(): void {
    this.#isReady = true
  }

  markHeard(): void {
    this.#lastHeardAt = now()
  }

  /** Milliseconds since the agent was heard of; 0 while it is not connected. */
  silenceMs(at: number): number {
    return this.#po ? at - this.#lastHeardAt : 0
  }

  /**
   * The link has ended. An agent that had been silent has used up its time, and is evicted at once; an agent whose link
   * was cut may return within `returnWithin`.
   */
  detach(po: PostingEnd, reason: string | undefined): void {
    if (this.#po !== po || this.#isGone) return
    this.#po = undefined
    this.#isReady = false
    const { evictAfter, returnWithin } = this.#leases
    const timeLeft = Math.min(returnWithin, this.#lastHeardAt + evictAfter - now())
    const why = `agent ${this.name} was evicted: ${reason ?? 'it hung up'}`
    if (timeLeft <= 0) this.evict(why)
    else this.#returnTimer = after(timeLeft, () => this.evict(`${why}, and it did not return`))
  }

  /** The agent wants to leave: its instances must be drained. */
  drainInstances(why: string): void {
    if (this.#leaveReason !== undefined) return
    this.#leaveReason = why
    for (const instance of [...this.instances.values()]) instance.announceLeaving(why)
  }

  /** The agent has gone, however it went: all of its instances are lost. */
  evict(why: string, how: AgentDeparture = 'evicted'): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#returnTimer?.clear()
    const po = this.#po
    this.#po = undefined
    this.#onAgentGone(this, how, why)
    for (const instance of [...this.instances.values()]) instance.onAgentLost(why)
    void po?.disconnect(why)
  }

  /** @throws ManyhostError MANYHOST_INSTANCE_ENDED while the agent is away, or when it is gone */
  get po(): PostingEnd {
    if (this.#po) return this.#po
    const what = this.#isGone ? 'is gone' : 'is away'
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `agent ${this.name} ${what}`)
  }

  /** Asks the agent to end an instance. Rejects when the link ends before the answer. */
  async stopInstance(id: string, grace: number): Promise<void> {
    await this.po.request(code`stop(${id}, ${grace})`)
  }
}
