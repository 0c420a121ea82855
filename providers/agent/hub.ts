/** Where agents dial in: who is there, who gets what is to be started, and what becomes of it when one goes. */
import { asError, describe, ManyhostError } from '../../src/core/errors.ts'
import { type AgentEvent, Emitter } from '../../src/core/events.ts'
import type { Running, StartSpec } from '../../src/core/provider.ts'
import { every, now, type Timer, wallClock } from '../../src/core/time.ts'
import { type Key, type PostingEnd, serve, type WireServer } from '../../src/wire/index.ts'
import { door } from './door.ts'
import { Lanes } from './lanes.ts'
import { type AgentFacts, type Departure, type Machine, Member } from './member.ts'
import type { AgentsSettings } from './options.ts'
import { explain, pick, type Wish } from './placement.ts'
import { Remote } from './remote.ts'
import { Transfers } from './transfers.ts'

/** Starts that wait for room, over all services. */
const MOST_WAITING = 10_000

export interface HubEvents {
  agent: AgentEvent
  /** Of links that did not become an agent's: a wrong key, a broken handshake. */
  refused: Error
}

interface Waiting {
  readonly wish: Wish
  /** The same for the same wish. */
  readonly kind: string
  readonly take: (member: Member) => void
  readonly fail: (error: Error) => void
}

export class Hub extends Emitter<HubEvents> {
  readonly settings: AgentsSettings
  readonly lanes: Lanes
  readonly transfers = new Transfers()
  /** Since the hub was made. */
  readonly counts = { evicted: 0, left: 0, refused: 0, fenced: 0 }
  readonly #key: Key
  readonly #members = new Map<string, Member>()
  readonly #waiting = new Set<Waiting>()
  #server: Promise<WireServer> | undefined
  #isClosed = false
  #sweeps: Timer | undefined
  #sweptAt = now()
  /** Above all that an earlier hub at this address gave out, as clocks go. */
  #fence = wallClock()

  constructor(settings: AgentsSettings, key: Key) {
    super('hub of the agents')
    this.settings = settings
    this.#key = key
    this.lanes = new Lanes(settings.laneTimeout)
  }

  /** Evicts who is silent. The wire's own watch ends dead links too, but no sooner than two beats of the peer. */
  #sweep(interval: number): void {
    const { evictAfter } = this.settings
    const at = now()
    const late = at - this.#sweptAt > 2 * interval
    this.#sweptAt = at
    // If we have stood still ourselves, what they said waits to be read.
    if (late) return
    for (const member of [...this.#members.values()]) {
      const silent = member.silentFor(at)
      if (silent < evictAfter) continue
      member.evict(`agent ${member.name} was evicted: silent for ${Math.round(silent)} ms`)
    }
  }

  /** Listens, if it does not yet; a failure is forgotten, so that the next one may try again. */
  async open(): Promise<WireServer> {
    if (this.#isClosed) throw closed()
    this.#server ??= this.#listen()
    try {
      return await this.#server
    } catch (error) {
      this.#server = undefined
      throw error
    }
  }

  #listen(): Promise<WireServer> {
    const { listen, evictAfter, maxAgents, maxGreeting, tls } = this.settings
    const interval = Math.min(1_000, evictAfter / 4)
    this.#sweeps ??= every(interval, () => this.#sweep(interval))
    const where = listen.startsWith('unix:')
      ? { path: listen.slice(5) }
      : {
          host: listen.replace(/:\d+$/, '').replace(/^\[|\]$/g, '') || '127.0.0.1',
          port: Number(listen.replace(/^.*:/, '')),
        }
    return serve(
      {
        ...where,
        key: this.#key,
        auth: 'required',
        // An agent's load comes each `beat`: beats of the wire's own would only come beside it.
        beat: evictAfter,
        deadAfter: evictAfter,
        maxLinks: maxAgents + maxGreeting,
        ...(tls && { tls }),
        onError: (error) => this.#refuse(error),
      },
      (po, ho) => door(this, po, ho),
    )
  }

  #refuse(error: Error): void {
    this.counts.refused++
    this.emit('refused', error)
  }

  get agents(): readonly AgentFacts[] {
    return [...this.#members.values()].map(({ facts }) => facts)
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** An agent that said something of a time before it was evicted. */
  fenced(): void {
    this.counts.fenced++
  }

  /** The agent that comes: the one that was cut off a moment ago, or a new one. @throws ManyhostError */
  welcome(po: PostingEnd, machine: Machine, said: Record<string, unknown>): Member {
    const { ident } = po.peer
    const known = this.#members.get(machine.boot)
    if (known && known.ident === ident && known.fence === said.fence) {
      this.#say(known, 'returned')
      return known
    }
    const refusal = known
      ? 'an agent of that name is here already'
      : this.#members.size >= this.settings.maxAgents
        ? `there are ${this.#members.size} agents already (maxAgents)`
        : this.#isClosed
          ? 'the hub is closed'
          : undefined
    // One that came again without its fence has lost its memory: what it had is lost with it.
    if (known && known.ident === ident) known.evict(`agent ${known.name} came again as another`)
    else if (refusal) {
      const error = new ManyhostError('MANYHOST_AGENT_REFUSED', refusal)
      this.#refuse(error)
      throw error
    }
    const member = new Member(machine, ident, ++this.#fence, this.settings, (...gone) =>
      this.#onGone(...gone),
    )
    this.#members.set(machine.boot, member)
    this.#say(member, 'came')
    return member
  }

  /** Compares what an agent has with what it should: answers what it is to keep. What has ended meanwhile it tells then. */
  sort(member: Member, there: ReadonlySet<string>): string[] {
    const keep: string[] = []
    for (const [id, instance] of [...member.instances]) {
      if (!there.has(id)) instance.lost(`agent ${member.name} has returned without it`)
      else {
        if (instance.isWanted) keep.push(id)
        instance.resume()
      }
    }
    return keep
  }

  leaves(member: Member, why: string): void {
    this.#say(member, 'leaves', why)
    member.leave(why)
  }

  #onGone(member: Member, how: Departure, why: string): void {
    if (this.#members.get(member.machine.boot) === member) {
      this.#members.delete(member.machine.boot)
    }
    this.counts[how]++
    this.#say(member, how, why)
  }

  #say(member: Member, change: AgentEvent['change'], reason?: string): void {
    const event = { agent: member.name, change, at: wallClock(), ...(reason && { reason }) }
    this.emit('agent', event)
  }

  /** Starts it where there is room, as soon as there is. */
  async start(spec: StartSpec, wish: Wish, signal: AbortSignal): Promise<Running> {
    await this.open()
    const member = await this.#roomFor(spec, wish, signal)
    const instance = new Remote(spec, member, { lanes: this.lanes, transfers: this.transfers })
    member.instances.set(spec.id, instance)
    void instance.gone.then(() => {
      member.give(spec.id)
      this.place()
    })
    await instance.begin(signal)
    return instance
  }

  #roomFor(spec: StartSpec, wish: Wish, signal: AbortSignal): Promise<Member> {
    const { id, service } = spec
    const failed = (why: string, cause?: unknown): ManyhostError =>
      new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
        service,
        ...(cause !== undefined && { cause }),
      })
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(failed('it was given up', signal.reason))
      if (this.#waiting.size >= MOST_WAITING) {
        return reject(failed(`${MOST_WAITING} starts wait for an agent already`))
      }
      const settle = (): void => {
        this.#waiting.delete(waiting)
        signal.removeEventListener('abort', onAbort)
      }
      const waiting: Waiting = {
        wish,
        kind: JSON.stringify(wish),
        take: (member) => {
          settle()
          member.take(id, wish)
          resolve(member)
        },
        fail: (error) => {
          settle()
          reject(error)
        },
      }
      const onAbort = (): void => {
        const why = `${describe(signal.reason)}; ${this.#missing(wish)}`
        waiting.fail(failed(why, signal.reason))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.add(waiting)
      this.place()
      if (this.#waiting.has(waiting)) {
        spec.onOutput(`manyhost: waits for an agent: ${this.#missing(wish)}\n`)
      }
    })
  }

  #missing(wish: Wish): string {
    return `no agent has room: ${explain(this.#members.values(), wish)}`
  }

  /** Whoever waits longest is asked for first; one that nobody has room for holds up nobody else. */
  place(): void {
    // Of many that want the same, and there is no room for the first, none need be tried.
    const hopeless = new Set<string>()
    for (const { wish, kind, take } of [...this.#waiting]) {
      if (hopeless.has(kind)) continue
      const member = pick(this.#members.values(), wish)
      if (member) take(member)
      else hopeless.add(kind)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#sweeps?.clear()
    for (const { fail } of [...this.#waiting]) fail(closed())
    const members = [...this.#members.values()]
    const instances = members.flatMap((member) => [...member.instances.values()])
    // One that is away ends them by itself: it is not waited for.
    for (const member of members) if (!member.isUp) member.evict('the hub was closed', 'left')
    await Promise.all(instances.map((instance) => instance.stop(0)))
    for (const member of members) member.evict('the hub was closed', 'left')
    this.lanes.close(closed())
    const server = await this.#server?.catch((error) => void asError(error))
    await server?.close('the hub was closed')
  }
}

function closed(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the hub of the agents is closed')
}
