/** An agent as the hub knows it: what it offers, what of it is taken, and the link to it, which may come and go. */
import { describe, ManyhostError } from '../../src/core/errors.ts'
import { after, now, type Timer, wallClock } from '../../src/core/time.ts'
import { code, type PostingEnd } from '../../src/wire/index.ts'
import type { Offer, Wish } from './placement.ts'
import type { Remote } from './remote.ts'

/** What an agent says of itself when it comes. */
export interface Machine {
  /** Made anew by each agent that starts; a secret between the two. */
  readonly boot: string
  readonly name: string
  readonly places: number
  readonly cpus: number
  readonly memory: number
  readonly labels: Readonly<Record<string, string>>
  readonly capabilities: ReadonlySet<string>
  /** Name of its own provider. */
  readonly provider: string
}

/** What of an agent people may see. */
export interface AgentFacts {
  readonly name: string
  readonly state: 'up' | 'away' | 'leaving'
  readonly places: number
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

export interface Leases {
  readonly evictAfter: number
  readonly returnWithin: number
}

/** How an agent has gone: in peace, or because it was not heard of. */
export type Departure = 'left' | 'evicted'
type OnGone = (member: Member, how: Departure, why: string) => void

export class Member implements Offer {
  readonly machine: Machine
  /** As its key was found by, where there is one for each. */
  readonly ident: string | undefined
  /** Told in each message: what an agent says that was evicted meanwhile has an older one. */
  readonly fence: number
  readonly instances = new Map<string, Remote>()
  load = 0
  readonly #since = wallClock()
  readonly #shares = new Map<string, Wish>()
  #taken = { places: 0, cpus: 0, memory: 0 }
  readonly #leases: Leases
  readonly #onGone: OnGone
  #po: PostingEnd | undefined
  #isReady = false
  #leaving: string | undefined
  #isGone = false
  #heardAt = now()
  #away: Timer | undefined

  constructor(
    machine: Machine,
    ident: string | undefined,
    fence: number,
    leases: Leases,
    onGone: OnGone,
  ) {
    this.machine = machine
    this.ident = ident
    this.fence = fence
    this.#leases = leases
    this.#onGone = onGone
  }

  get name(): string {
    return this.machine.name
  }

  get isGone(): boolean {
    return this.#isGone
  }

  get isUp(): boolean {
    return this.#po !== undefined
  }

  get isOpen(): boolean {
    return this.#isReady && this.#po !== undefined && this.#leaving === undefined
  }

  get places(): number {
    return this.machine.places
  }

  get cpus(): number {
    return this.machine.cpus
  }

  get memory(): number {
    return this.machine.memory
  }

  get labels(): Readonly<Record<string, string>> {
    return this.machine.labels
  }

  get capabilities(): ReadonlySet<string> {
    return this.machine.capabilities
  }

  /** Kept, as each placement asks all agents for it. */
  get taken(): { readonly places: number; readonly cpus: number; readonly memory: number } {
    return this.#taken
  }

  get facts(): AgentFacts {
    const { name, places, cpus, memory, labels, provider } = this.machine
    return {
      name,
      state: this.#leaving !== undefined ? 'leaving' : this.isOpen ? 'up' : 'away',
      places,
      cpus,
      memory,
      labels,
      provider,
      load: this.load,
      instances: [...this.instances.values()].filter(({ isOver }) => !isOver).map(({ id }) => id),
      address: this.#po?.remoteAddr,
      since: this.#since,
    }
  }

  take(id: string, wish: Wish): void {
    this.#shares.set(id, wish)
    this.#reckon()
  }

  give(id: string): void {
    this.#shares.delete(id)
    this.instances.delete(id)
    this.#reckon()
  }

  /** Anew each time: a sum of fractions that is added to and taken from would drift. */
  #reckon(): void {
    let [cpus, memory] = [0, 0]
    for (const share of this.#shares.values()) {
      cpus += share.cpus
      memory += share.memory
    }
    this.#taken = { places: this.#shares.size, cpus, memory }
  }

  /** It has come, or come back. Another link that it still had is over. */
  attach(po: PostingEnd): void {
    const old = this.#po
    this.#po = po
    this.#isReady = false
    this.#away?.clear()
    this.heard()
    void old?.disconnect('its agent has come again')
  }

  /** It has heard what became of what it had, and may be given more. */
  settled(): void {
    this.#isReady = true
  }

  heard(): void {
    this.#heardAt = now()
  }

  /** Milliseconds since it was heard of, while it is connected. */
  silentFor(at: number): number {
    return this.#po ? at - this.#heardAt : 0
  }

  /** The link has ended. One that was silent has used its time up; one that was cut may come back. */
  detach(po: PostingEnd, reason: string | undefined): void {
    if (this.#po !== po || this.#isGone) return
    this.#po = undefined
    this.#isReady = false
    const { evictAfter, returnWithin } = this.#leases
    const left = Math.min(returnWithin, this.#heardAt + evictAfter - now())
    const why = `agent ${this.name} was evicted: ${reason ?? 'it hung up'}`
    if (left <= 0) this.evict(why)
    else this.#away = after(left, () => this.evict(`${why}, and it did not return`))
  }

  /** It wants to go: its instances are to be drained. */
  leave(why: string): void {
    if (this.#leaving !== undefined) return
    this.#leaving = why
    for (const instance of [...this.instances.values()]) instance.leave(why)
  }

  /** It has gone, in peace or not: all that it had is lost. */
  evict(why: string, how: Departure = 'evicted'): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#away?.clear()
    const po = this.#po
    this.#po = undefined
    this.#onGone(this, how, why)
    for (const instance of [...this.instances.values()]) instance.lost(why)
    void po?.disconnect(why)
  }

  /** @throws ManyhostError MANYHOST_INSTANCE_ENDED while it is away, or gone */
  get po(): PostingEnd {
    if (this.#po) return this.#po
    const what = this.#isGone ? 'is gone' : 'is away'
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `agent ${this.name} ${what}`)
  }

  /** Tells it something that nothing depends on. */
  tell(text: string): void {
    if (this.#po) void this.#po.notif(text).catch(() => {})
  }

  /** Asks it to end an instance. Rejects when the link ends meanwhile. */
  async stop(id: string, grace: number): Promise<void> {
    await this.po.request(code`stop(${id}, ${grace})`)
  }

  /** An error of the agent's, with what is known of it here. */
  static failure(thrown: unknown, what: string, output: string, service: string): ManyhostError {
    const known = thrown instanceof ManyhostError ? thrown : undefined
    const isOurs = known && !known.code.startsWith('MANYHOST_WIRE_')
    return new ManyhostError(
      isOurs ? known.code : 'MANYHOST_START_FAILED',
      isOurs ? known.message : `${what}: ${describe(thrown)}`,
      { service, output, cause: thrown },
    )
  }
}
