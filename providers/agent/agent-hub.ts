/** The hub: agents dial it, it chooses the agent for each start, and it gives up the instances of an agent that is gone. */
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { type AgentEvent, Emitter } from '../../src/core/events.ts'
import { requireListenAddress } from '../../src/core/listen-address.ts'
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
import { type AgentHubCalls, createHubHandlers } from './hub-handlers.ts'
import type { AgentsSettings } from './options.ts'
import type { PlacementRequest } from './placement.ts'
import { RemoteInstance } from './remote-instance.ts'
import { AgentTunnels } from './tunnels.ts'
import { WaitingStarts } from './waiting-starts.ts'

export interface AgentHubEvents {
  agent: AgentEvent
  /** A link was refused: its key was wrong, its handshake was broken, or there are too many agents. */
  refused: Error
}

export class AgentHub extends Emitter<AgentHubEvents> implements AgentHubCalls {
  readonly settings: AgentsSettings
  readonly tunnels: AgentTunnels
  readonly transfers = new FileTransfers()
  /** Since the hub was created. */
  readonly counts = { evicted: 0, left: 0, refused: 0, fenced: 0 }
  readonly #key: WireKey
  /** By `bootId`. */
  readonly #connections = new Map<string, AgentConnection>()
  readonly #waitingStarts = new WaitingStarts(this.#connections)
  #server: Promise<WireServer> | undefined
  #isClosed = false
  #sweepTimer: Timer | undefined
  #lastSweepAt = now()
  /** Starts at the time of day, so that it is above all fences that an earlier hub at this address has given out. */
  #lastFence = wallClock()

  constructor(settings: AgentsSettings, key: WireKey) {
    super('hub of the agents')
    this.settings = settings
    this.#key = key
    this.tunnels = new AgentTunnels(settings.tunnelTimeout)
  }

  /** Evicts agents that are silent. The wire ends dead links by itself, but only after two beats of the peer or more. */
  #evictSilentAgents(interval: number): void {
    const { evictAfter } = this.settings
    const at = now()
    const isLate = at - this.#lastSweepAt > 2 * interval
    this.#lastSweepAt = at
    // If this process itself stood still, messages of the agents are waiting to be read.
    if (isLate) return
    for (const agent of [...this.#connections.values()]) {
      const silence = agent.silenceMs(at)
      if (silence < evictAfter) continue
      agent.evict(`agent ${agent.name} was evicted: silent for ${Math.round(silence)} ms`)
    }
  }

  /** Listens, if the hub does not listen yet. After a failure the next call tries again. */
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
    return serve(
      {
        ...requireListenAddress('agents: listen', listen),
        key: this.#key,
        auth: 'required',
        // Agents send their load each `beat`, which is a sign of life already. The wire's own beats are rarer.
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
    return [...this.#connections.values()].map(({ status }) => status)
  }

  get numWaitingStarts(): number {
    return this.#waitingStarts.size
  }

  countFenced(): void {
    this.counts.fenced++
  }

  /**
   * Decides what an agent is that says hello:
   * 1. A known agent with its fence: it was cut off a moment ago, and has returned.
   * 2. A known agent without its fence: it has ended all of its instances. The hub gives them up and admits it as a new one.
   * 3. An agent with the id of another one, or one too many, or one that dials a closed hub: it is refused.
   * 4. Any other: it is admitted as a new one.
   * @param fence what the agent says that its fence is
   * @throws ManyhostError MANYHOST_AGENT_REFUSED
   */
  admitAgent(po: PostingEnd, info: AgentInfo, fence: unknown): AgentConnection {
    const { ident } = po.peer
    const known = this.#connections.get(info.bootId)
    const isSame = known?.ident === ident
    // 1.
    if (known && isSame && known.fence === fence) {
      this.#emitAgentEvent(known, 'returned')
      return known
    }
    // 2.
    if (known && isSame) known.evict(`agent ${known.name} came again as another`)
    else {
      // 3.
      const refusal = this.#findRefusal(known)
      if (refusal !== undefined) {
        const error = new ManyhostError('MANYHOST_AGENT_REFUSED', refusal)
        this.#reportRefused(error)
        throw error
      }
    }
    // 4.
    const agent = new AgentConnection(info, ident, ++this.#lastFence, this.settings, (...args) =>
      this.#onAgentGone(...args),
    )
    this.#connections.set(info.bootId, agent)
    this.#emitAgentEvent(agent, 'came')
    return agent
  }

  #findRefusal(known: AgentConnection | undefined): string | undefined {
    if (known) return 'an agent of that id is connected already'
    if (this.#connections.size >= this.settings.maxAgents) {
      return `${this.#connections.size} agents are connected already (maxAgents)`
    }
    return this.#isClosed ? 'the hub is closed' : undefined
  }

  /**
   * Compares the instances that an agent reports with those that the hub has placed on it. Returns the ids that the agent
   * must keep; it ends all others. An instance that ended while the agent was away is reported by the agent afterwards.
   */
  reconcileInstances(agent: AgentConnection, reported: ReadonlySet<string>): string[] {
    const keep: string[] = []
    for (const [id, instance] of [...agent.instances]) {
      if (!reported.has(id)) instance.onAgentLost(`agent ${agent.name} has returned without it`)
      else {
        if (instance.shouldKeep) keep.push(id)
        instance.onAgentReturned()
      }
    }
    return keep
  }

  startLeaving(agent: AgentConnection, why: string): void {
    this.#emitAgentEvent(agent, 'leaves', why)
    agent.drainInstances(why)
  }

  #onAgentGone(agent: AgentConnection, how: AgentDeparture, why: string): void {
    if (this.#connections.get(agent.info.bootId) === agent) {
      this.#connections.delete(agent.info.bootId)
    }
    this.counts[how]++
    this.#emitAgentEvent(agent, how, why)
  }

  #emitAgentEvent(agent: AgentConnection, change: AgentEvent['change'], reason?: string): void {
    const event = { agent: agent.name, change, at: wallClock(), ...(reason && { reason }) }
    this.emit('agent', event)
  }

  /** Starts the instance on an agent with free capacity, as soon as there is one. */
  async startInstance(
    spec: StartSpec,
    request: PlacementRequest,
    signal: AbortSignal,
  ): Promise<Running> {
    await this.ensureListening()
    const agent = await this.#waitingStarts.waitForAgent(spec, request, signal)
    const instance = new RemoteInstance(spec, agent, {
      tunnels: this.tunnels,
      transfers: this.transfers,
    })
    agent.instances.set(spec.id, instance)
    void instance.gone.then(() => {
      agent.release(spec.id)
      this.assignWaitingStarts()
    })
    await instance.start(signal)
    return instance
  }

  assignWaitingStarts(): void {
    this.#waitingStarts.assignAll()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#sweepTimer?.clear()
    this.#waitingStarts.failAll(createClosedError())
    const agents = [...this.#connections.values()]
    const instances = agents.flatMap((agent) => [...agent.instances.values()])
    // An agent that is away ends its instances by itself, so it is not waited for.
    for (const agent of agents) if (!agent.isUp) agent.evict('the hub was closed', 'left')
    await Promise.all(instances.map((instance) => instance.stop(0)))
    for (const agent of agents) agent.evict('the hub was closed', 'left')
    this.tunnels.close(createClosedError())
    const server = await this.#server?.catch((error) => void asError(error))
    await server?.close('the hub was closed')
  }
}

function createClosedError(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the hub of the agents is closed')
}
