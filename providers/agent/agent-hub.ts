/** Where agents dial in: who is there, who gets what is to be started, and what becomes of it when one goes. */
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { type AgentEvent, Emitter } from '../../src/core/events.ts'
import type { Running, StartSpec } from '../../src/core/provider.ts'
import { every, now, type Timer, wallClock } from '../../src/core/time.ts'
import { type PostingEnd, serve, type WireKey, type WireServer } from '../../src/wire/index.ts'
import {
  AgentConnection,
  type AgentDeparture,
  type AgentInfo,
  type AgentStatus,
} from './agent-connection.ts'
import { FileTransfers } from './file-transfers.ts'
import { createHubHandlers } from './hub-handlers.ts'
import type { AgentsSettings } from './options.ts'
import { explainNoPlacement, type PlacementRequest, pickAgent } from './placement.ts'
import { RemoteInstance } from './remote-instance.ts'
import { AgentTunnels } from './tunnels.ts'

/** Starts that wait for room, over all services. */
const MAX_WAITING_STARTS = 10_000

export interface AgentHubEvents {
  agent: AgentEvent
  /** Of links that did not become an agent's: a wrong key, a broken handshake. */
  refused: Error
}

interface WaitingStart {
  readonly request: PlacementRequest
  /** The same for the same wish. */
  readonly wishKey: string
  readonly assign: (member: AgentConnection) => void
  readonly fail: (error: Error) => void
}

export class AgentHub extends Emitter<AgentHubEvents> {
  readonly settings: AgentsSettings
  readonly tunnels: AgentTunnels
  readonly transfers = new FileTransfers()
  /** Since the hub was made. */
  readonly counts = { evicted: 0, left: 0, refused: 0, fenced: 0 }
  readonly #key: WireKey
  readonly #connections = new Map<string, AgentConnection>()
  readonly #waitingStarts = new Set<WaitingStart>()
  #server: Promise<WireServer> | undefined
  #isClosed = false
  #sweepTimer: Timer | undefined
  #lastSweepAt = now()
  /** Above all that an earlier hub at this address gave out, as clocks go. */
  #lastFence = wallClock()

  constructor(settings: AgentsSettings, key: WireKey) {
    super('hub of the agents')
    this.settings = settings
    this.#key = key
    this.tunnels = new AgentTunnels(settings.laneTimeout)
  }

  /** Evicts who is silent. The wire's own watch ends dead links too, but no sooner than two beats of the peer. */
  #evictSilentAgents(interval: number): void {
    const { evictAfter } = this.settings
    const at = now()
    const late = at - this.#lastSweepAt > 2 * interval
    this.#lastSweepAt = at
    // If we have stood still ourselves, what they said waits to be read.
    if (late) return
    for (const member of [...this.#connections.values()]) {
      const silent = member.silenceMs(at)
      if (silent < evictAfter) continue
      member.evict(`agent ${member.name} was evicted: silent for ${Math.round(silent)} ms`)
    }
  }

  /** Listens, if it does not yet; a failure is forgotten, so that the next one may try again. */
  async ensureListening(): Promise<WireServer> {
    if (this.#isClosed) throw createClosedError()
    this.#server ??= this.#startServer()
    try {
      return await this.#server
    } catch (error) {
      this.#server = undefined
      throw error
    }
  }

  #startServer(): Promise<WireServer> {
    const { listen, evictAfter, maxAgents, maxGreeting, tls } = this.settings
    const interval = Math.min(1_000, evictAfter / 4)
    this.#sweepTimer ??= every(interval, () => this.#evictSilentAgents(interval))
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
        onError: (error) => this.#reportRefused(error),
      },
      (po, ho) => createHubHandlers(this, po, ho),
    )
  }

  #reportRefused(error: Error): void {
    this.counts.refused++
    this.emit('refused', error)
  }

  get agents(): readonly AgentStatus[] {
    return [...this.#connections.values()].map(({ status: facts }) => facts)
  }

  get numWaitingStarts(): number {
    return this.#waitingStarts.size
  }

  /** An agent that said something of a time before it was evicted. */
  countFenced(): void {
    this.counts.fenced++
  }

  /** The agent that comes: the one that was cut off a moment ago, or a new one. @throws ManyhostError */
  admitAgent(po: PostingEnd, machine: AgentInfo, said: Record<string, unknown>): AgentConnection {
    const { ident } = po.peer
    const known = this.#connections.get(machine.bootId)
    if (known && known.ident === ident && known.fence === said.fence) {
      this.#emitAgentEvent(known, 'returned')
      return known
    }
    const refusal = known
      ? 'an agent of that name is here already'
      : this.#connections.size >= this.settings.maxAgents
        ? `there are ${this.#connections.size} agents already (maxAgents)`
        : this.#isClosed
          ? 'the hub is closed'
          : undefined
    // One that came again without its fence has lost its memory: what it had is lost with it.
    if (known && known.ident === ident) known.evict(`agent ${known.name} came again as another`)
    else if (refusal) {
      const error = new ManyhostError('MANYHOST_AGENT_REFUSED', refusal)
      this.#reportRefused(error)
      throw error
    }
    const member = new AgentConnection(
      machine,
      ident,
      ++this.#lastFence,
      this.settings,
      (...gone) => this.#onAgentGone(...gone),
    )
    this.#connections.set(machine.bootId, member)
    this.#emitAgentEvent(member, 'came')
    return member
  }

  /** Compares what an agent has with what it should: answers what it is to keep. What has ended meanwhile it tells then. */
  reconcileInstances(member: AgentConnection, there: ReadonlySet<string>): string[] {
    const keep: string[] = []
    for (const [id, instance] of [...member.instances]) {
      if (!there.has(id)) instance.onAgentLost(`agent ${member.name} has returned without it`)
      else {
        if (instance.shouldKeep) keep.push(id)
        instance.onAgentReturned()
      }
    }
    return keep
  }

  startLeaving(member: AgentConnection, why: string): void {
    this.#emitAgentEvent(member, 'leaves', why)
    member.drainInstances(why)
  }

  #onAgentGone(member: AgentConnection, how: AgentDeparture, why: string): void {
    if (this.#connections.get(member.info.bootId) === member) {
      this.#connections.delete(member.info.bootId)
    }
    this.counts[how]++
    this.#emitAgentEvent(member, how, why)
  }

  #emitAgentEvent(member: AgentConnection, change: AgentEvent['change'], reason?: string): void {
    const event = { agent: member.name, change, at: wallClock(), ...(reason && { reason }) }
    this.emit('agent', event)
  }

  /** Starts it where there is room, as soon as there is. */
  async startInstance(
    spec: StartSpec,
    wish: PlacementRequest,
    signal: AbortSignal,
  ): Promise<Running> {
    await this.ensureListening()
    const member = await this.#waitForAgent(spec, wish, signal)
    const instance = new RemoteInstance(spec, member, {
      tunnels: this.tunnels,
      transfers: this.transfers,
    })
    member.instances.set(spec.id, instance)
    void instance.cleanedUp.then(() => {
      member.release(spec.id)
      this.assignWaitingStarts()
    })
    await instance.start(signal)
    return instance
  }

  #waitForAgent(
    spec: StartSpec,
    wish: PlacementRequest,
    signal: AbortSignal,
  ): Promise<AgentConnection> {
    const { id, service } = spec
    const failed = (why: string, cause?: unknown): ManyhostError =>
      new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
        service,
        ...(cause !== undefined && { cause }),
      })
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(failed('it was given up', signal.reason))
      if (this.#waitingStarts.size >= MAX_WAITING_STARTS) {
        return reject(failed(`${MAX_WAITING_STARTS} starts wait for an agent already`))
      }
      const settle = (): void => {
        this.#waitingStarts.delete(waiting)
        signal.removeEventListener('abort', onAbort)
      }
      const waiting: WaitingStart = {
        request: wish,
        wishKey: JSON.stringify(wish),
        assign: (member) => {
          settle()
          member.reserve(id, wish)
          resolve(member)
        },
        fail: (error) => {
          settle()
          reject(error)
        },
      }
      const onAbort = (): void => {
        const why = `${describeError(signal.reason)}; ${this.#explainNoAgent(wish)}`
        waiting.fail(failed(why, signal.reason))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waitingStarts.add(waiting)
      this.assignWaitingStarts()
      if (this.#waitingStarts.has(waiting)) {
        spec.onOutput(`manyhost: waits for an agent: ${this.#explainNoAgent(wish)}\n`)
      }
    })
  }

  #explainNoAgent(wish: PlacementRequest): string {
    return `no agent has room: ${explainNoPlacement(this.#connections.values(), wish)}`
  }

  /** Whoever waits longest is asked for first; one that nobody has room for holds up nobody else. */
  assignWaitingStarts(): void {
    // Of many that want the same, and there is no room for the first, none need be tried.
    const hopeless = new Set<string>()
    for (const { request: wish, wishKey: kind, assign: take } of [...this.#waitingStarts]) {
      if (hopeless.has(kind)) continue
      const member = pickAgent(this.#connections.values(), wish)
      if (member) take(member)
      else hopeless.add(kind)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#sweepTimer?.clear()
    for (const { fail } of [...this.#waitingStarts]) fail(createClosedError())
    const members = [...this.#connections.values()]
    const instances = members.flatMap((member) => [...member.instances.values()])
    // One that is away ends them by itself: it is not waited for.
    for (const member of members) if (!member.isUp) member.evict('the hub was closed', 'left')
    await Promise.all(instances.map((instance) => instance.stop(0)))
    for (const member of members) member.evict('the hub was closed', 'left')
    this.tunnels.close(createClosedError())
    const server = await this.#server?.catch((error) => void asError(error))
    await server?.close('the hub was closed')
  }
}

function createClosedError(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the hub of the agents is closed')
}
