/** An agent as the hub knows it: what it offers, what of it is taken, and the link to it, which may come and go. */
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { after, now, type Timer, wallClock } from '../../src/core/time.ts'
import { code, type PostingEnd } from '../../src/wire/index.ts'
import type { AgentOffer, PlacementRequest } from './placement.ts'
import type { RemoteInstance } from './remote-instance.ts'

/** What an agent says of itself when it comes. */
export interface AgentInfo {
  /** Made anew by each agent that starts; a secret between the two. */
  readonly bootId: string
  readonly name: string
  readonly maxInstances: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  /** Name of its own provider. */
  readonly provider: string
}

/** What of an agent people may see. */
export interface AgentStatus {
  readonly name: string
  readonly state: 'up' | 'away' | 'leaving'
  readonly maxInstances: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly provider: string
  readonly load: number
  /** Names of its instances. */
  readonly instances: readonly string[]
  /** Where it dialled from. */
  readonly address: string | undefined
  /** Milliseconds since 1970. */
  readonly since: number
}

export interface AgentLeases {
  readonly evictAfter: number
  readonly returnWithin: number
}

/** How an agent has gone: in peace, or because it was not heard of. */
export type AgentDeparture = 'left' | 'evicted'
type OnAgentGone = (member: AgentConnection, how: AgentDeparture, why: string) => void

export class AgentConnection implements AgentOffer {
  readonly info: AgentInfo
  /** As its key was found by, where there is one for each. */
  readonly ident: string | undefined
  /** Told in each message: what an agent says that was evicted meanwhile has an older one. */
  readonly fence: number
  readonly instances = new Map<string, RemoteInstance>()
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
    machine: AgentInfo,
    ident: string | undefined,
    fence: number,
    leases: AgentLeases,
    onGone: OnAgentGone,
  ) {
    this.info = machine
    this.ident = ident
    this.fence = fence
    this.#leases = leases
    this.#onAgentGone = onGone
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

  /** Kept, as each placement asks all agents for it. */
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
        .filter(({ hasEnded: isOver }) => !isOver)
        .map(({ id }) => id),
      address: this.#po?.remoteAddr,
      since: this.#since,
    }
  }

  reserve(id: string, wish: PlacementRequest): void {
    this.#reservations.set(id, wish)
    this.#sumReservations()
  }

  release(id: string): void {
    this.#reservations.delete(id)
    this.instances.delete(id)
    this.#sumReservations()
  }

  /** Anew each time: a sum of fractions that is added to and taken from would drift. */
  #sumReservations(): void {
    let [cpus, memory] = [0, 0]
    for (const share of this.#reservations.values()) {
      cpus += share.cpus
      memory += share.memory
    }
    this.#reserved = { instances: this.#reservations.size, cpus, memory }
  }

  /** It has come, or come back. Another link that it still had is over. */
  attach(po: PostingEnd): void {
    const old = this.#po
    this.#po = po
    this.#isReady = false
    this.#returnTimer?.clear()
    this.markHeard()
    void old?.disconnect('its agent has come again')
  }

  /** It has heard what became of what it had, and may be given more. */
  markReady(): void {
    this.#isReady = true
  }

  markHeard(): void {
    this.#lastHeardAt = now()
  }

  /** Milliseconds since it was heard of, while it is connected. */
  silenceMs(at: number): number {
    return this.#po ? at - this.#lastHeardAt : 0
  }

  /** The link has ended. One that was silent has used its time up; one that was cut may come back. */
  detach(po: PostingEnd, reason: string | undefined): void {
    if (this.#po !== po || this.#isGone) return
    this.#po = undefined
    this.#isReady = false
    const { evictAfter, returnWithin } = this.#leases
    const left = Math.min(returnWithin, this.#lastHeardAt + evictAfter - now())
    const why = `agent ${this.name} was evicted: ${reason ?? 'it hung up'}`
    if (left <= 0) this.evict(why)
    else this.#returnTimer = after(left, () => this.evict(`${why}, and it did not return`))
  }

  /** It wants to go: its instances are to be drained. */
  drainInstances(why: string): void {
    if (this.#leaveReason !== undefined) return
    this.#leaveReason = why
    for (const instance of [...this.instances.values()]) instance.announceLeaving(why)
  }

  /** It has gone, in peace or not: all that it had is lost. */
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

  /** @throws ManyhostError MANYHOST_INSTANCE_ENDED while it is away, or gone */
  get po(): PostingEnd {
    if (this.#po) return this.#po
    const what = this.#isGone ? 'is gone' : 'is away'
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `agent ${this.name} ${what}`)
  }

  /** Tells it something that nothing depends on. */
  sendNotification(text: string): void {
    if (this.#po) void this.#po.notif(text).catch(() => {})
  }

  /** Asks it to end an instance. Rejects when the link ends meanwhile. */
  async stopInstance(id: string, grace: number): Promise<void> {
    await this.po.request(code`stop(${id}, ${grace})`)
  }

  /** An error of the agent's, with what is known of it here. */
  static toStartError(
    thrown: unknown,
    what: string,
    output: string,
    service: string,
  ): ManyhostError {
    const known = thrown instanceof ManyhostError ? thrown : undefined
    const isOurs = known && !known.code.startsWith('MANYHOST_WIRE_')
    return new ManyhostError(
      isOurs ? known.code : 'MANYHOST_START_FAILED',
      isOurs ? known.message : `${what}: ${describeError(thrown)}`,
      { service, output, cause: thrown },
    )
  }
}
