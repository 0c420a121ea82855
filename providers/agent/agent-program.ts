/** The agent: dials its hub, runs what it is told to, and ends it when it has lost its hub for too long. */
import { randomBytes } from 'node:crypto'
import { availableParallelism, hostname, loadavg, totalmem } from 'node:os'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Provider } from '../../src/core/provider.ts'
import { after, every, now, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import { code, type PostingEnd, type WireEnds } from '../../src/wire/index.ts'
import { backoffDelay } from '../../src/wire/reconnect.ts'
import { processes } from '../process/index.ts'
import { createAgentHandlers } from './agent-handlers.ts'
import { AgentInstance, type HubReporter } from './agent-instance.ts'
import { connectHub, type HubConnectOptions } from './connect-hub.ts'
import {
  type AgentNotice,
  type AgentOptions,
  type AgentSettings,
  isLocalAddress,
  parseAgentOptions,
} from './options.ts'
import { parseCount, parseFields, parseTexts } from './parse-message.ts'

/** First wait between two attempts to connect, in ms. */
const MIN_CONNECT_DELAY = 200

/**
 * Runs instances on this machine for the hub at `address`, until `signal` is aborted, or until it has had none for
 * `timeout` ms. Resolves when all of them have ended. A hub that is away is waited for, for `hubTimeout` ms.
 * @throws ManyhostError MANYHOST_INVALID_OPTION; MANYHOST_WIRE_AUTH when the hub has another key
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const settings = parseAgentOptions(options)
  if (!settings.key) throw createOptionError('key is needed: the hub has it too')
  if (!settings.tls && !settings.insecure && !isLocalAddress(settings.address)) {
    throw createOptionError(
      `${settings.address} is another machine: give tls, or say insecure: true`,
    )
  }
  await new AgentProgram(settings, options.maxInstances).run()
}

export class AgentProgram implements HubReporter {
  readonly instances = new Map<string, AgentInstance>()
  readonly provider: Provider
  readonly hubOptions: HubConnectOptions
  readonly #settings: AgentSettings
  readonly #maxInstances: number
  readonly #bootId = randomBytes(16).toString('hex')
  /** Whether it is to end, and why. */
  #endReason: string | undefined
  readonly #endController = new AbortController()
  #po: PostingEnd | undefined
  #fence: number | undefined
  #evictAfter = 15_000
  /** When the last message left that the hub has acknowledged: the hub has heard us then, or later. */
  #acknowledgedAt = now()
  #leaseTimer: Timer | undefined
  #idleTimer: Timer | undefined
  #hubTimer: Timer | undefined

  constructor(settings: AgentSettings, places: number | undefined) {
    const { key, name = hostname(), address, tls, provider } = settings
    this.#settings = settings
    this.#maxInstances = places ?? availableParallelism()
    this.provider = provider ?? processes()
    this.hubOptions = { address, tls, key: key as string, ident: name }
  }

  async run(): Promise<void> {
    const { signal } = this.#settings
    const onAbort = (): void => void this.#beginShutdown(describeError(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    if (signal?.aborted) onAbort()
    this.#restartIdleTimer()
    this.#startHubTimer()
    try {
      await this.#keepConnected()
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#idleTimer?.clear()
      this.#hubTimer?.clear()
      this.#leaseTimer?.clear()
      await this.#stopAll(0)
      // One that was given to us is its maker's to close.
      if (!this.#settings.provider) await this.provider.close?.()
    }
  }

  async #keepConnected(): Promise<void> {
    const { maxDelay } = this.#settings
    for (let failures = 0; !this.#endController.signal.aborted; ) {
      const begun = now()
      try {
        const ends = await connectHub(this.hubOptions, (_, ho) => createAgentHandlers(this, ho))
        await this.#serveLink(ends)
      } catch (thrown) {
        const error = asError(thrown)
        if (!isRetryableError(error)) throw error
        this.#notify('lost', describeError(error))
      }
      if (this.#endController.signal.aborted) return
      // A link that lived for a while begins the count anew.
      failures = now() - begun >= 10_000 ? 1 : failures + 1
      const delay = backoffDelay(failures, MIN_CONNECT_DELAY, maxDelay, Math.random)
      await sleep(delay, this.#endController.signal).catch(() => {})
    }
  }

  /** As long as the link lives. @throws ManyhostError when the hub does not take us */
  async #serveLink({ po }: WireEnds): Promise<void> {
    let beats: Timer | undefined
    const onEnded = (): void => void po.disconnect()
    this.#endController.signal.addEventListener('abort', onEnded, { once: true })
    try {
      const sentAt = now()
      const welcome = parseFields(
        await po.request(code`hello(${this.#describeSelf()})`, { deadline: 10_000 }),
      )
      this.#acknowledgedAt = sentAt
      this.#leaseTimer?.clear()
      this.#hubTimer?.clear()
      this.#hubTimer = undefined
      this.#fence = parseCount(welcome.fence)
      this.#evictAfter = parseCount(welcome.evictAfter)
      await this.#stopUnknownInstances(new Set(parseTexts(welcome.keep)))
      this.#po = po
      // It counts as back when all of that was heard: not before, or it would be given places that are still taken.
      await Promise.all([...this.instances.values()].map((guest) => this.#sendBacklog(guest, po)))
      await po.request(code`ready(${this.#fence})`, { deadline: 10_000 })
      this.#notify('connected', `${this.hubOptions.address}, as ${this.hubOptions.ident}`)
      beats = every(parseCount(welcome.beat), () => void this.#sendHeartbeat(po))
      if (this.#endReason !== undefined) void this.#leaveHub(this.#endReason)
      const reason = await po.waitDisconnected()
      if (!this.#endController.signal.aborted) this.#notify('lost', reason ?? 'the hub hung up')
    } finally {
      beats?.clear()
      this.#endController.signal.removeEventListener('abort', onEnded)
      if (this.#po === po) this.#po = undefined
      void po.disconnect()
      this.#startLeaseTimer()
      this.#startHubTimer()
    }
  }

  #describeSelf(): Record<string, unknown> {
    const { labels, cpus, memory } = this.#settings
    return {
      boot: this.#bootId,
      fence: this.#fence,
      name: this.hubOptions.ident,
      maxInstances: this.#maxInstances,
      cpus: cpus ?? availableParallelism(),
      memory: memory ?? totalmem(),
      labels,
      capabilities: [...this.provider.capabilities],
      provider: this.provider.name,
      instances: [...this.instances.keys()],
    }
  }

  /** What the hub does not know, or has given to another, ends before anything new begins. */
  async #stopUnknownInstances(kept: ReadonlySet<string>): Promise<void> {
    const strangers = [...this.instances.values()].filter(({ id, exit }) => !kept.has(id) && !exit)
    if (strangers.length > 0)
      this.#notify('stopped', `${strangers.length} that the hub has no use for`)
    await Promise.all(strangers.map((guest) => this.#stopAndRemove(guest, 0)))
  }

  async #sendHeartbeat(po: PostingEnd): Promise<void> {
    const sentAt = now()
    const load = (loadavg()[0] ?? 0) / availableParallelism()
    try {
      await po.request(code`load(${this.#fence}, ${load})`, { deadline: this.#evictAfter })
      this.#acknowledgedAt = sentAt
    } catch (error) {
      if (isFencedError(error)) await this.#onHubLost('the hub has evicted us')
      void po.disconnect(describeError(error))
    }
  }

  /**
   * A lease (Gray and Cheriton 1989): the hub hears of us after we have sent, and evicts `evictAfter` after that; so what
   * we end `evictAfter` after we sent has ended, on our clock, before the hub gives its work to somebody else.
   */
  #startLeaseTimer(): void {
    this.#leaseTimer?.clear()
    if (this.instances.size === 0) return
    const left = Math.max(0, this.#acknowledgedAt + this.#evictAfter - now())
    this.#leaseTimer = after(left, () => void this.#onHubLost(`no hub for ${this.#evictAfter} ms`))
  }

  async #onHubLost(why: string): Promise<void> {
    if (this.instances.size > 0) this.#notify('stopped', `all instances: ${why}`)
    this.#fence = undefined
    await this.#stopAll(0)
  }

  async #stopAll(grace: number): Promise<void> {
    await Promise.all(
      [...this.instances.values()].map((guest) => this.#stopAndRemove(guest, grace)),
    )
  }

  async #stopAndRemove(guest: AgentInstance, grace: number): Promise<void> {
    await guest.stop(grace).catch((error) => this.#notify('stopped', describeError(error)))
    this.#removeInstance(guest)
  }

  #removeInstance(guest: AgentInstance): void {
    if (this.instances.get(guest.id) !== guest) return
    this.instances.delete(guest.id)
    this.#restartIdleTimer()
  }

  /** Begins to end: nothing new, and the hub is asked to drain what there is. */
  async #beginShutdown(why: string): Promise<void> {
    if (this.#endReason !== undefined) return
    this.#endReason = why
    this.#notify('draining', `${this.instances.size} instances: ${why}`)
    await this.#leaveHub(why)
  }

  async #leaveHub(why: string): Promise<void> {
    const po = this.#po
    if (po && this.instances.size > 0) {
      const drained = po
        .request(code`leave(${this.#fence}, ${why.slice(0, 1_000)})`)
        .then(() => this.#waitUntilEmpty())
      // A link that ends meanwhile ends the wait as well: nobody drains us then.
      const over = Promise.race([drained.catch(() => {}), po.waitDisconnected()])
      await resolveWithin(this.#settings.drainTimeout, over)
    }
    await this.#stopAll(0)
    if (this.#po) {
      const bye = this.#po.request(code`bye(${this.#fence})`, { deadline: 5_000 })
      await bye.catch(() => {})
    }
    this.#notify('ending', why)
    this.#endController.abort()
  }

  #onEmpty: (() => void) | undefined
  #waitUntilEmpty(): Promise<void> {
    if (this.instances.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onEmpty = resolve
    })
  }

  #restartIdleTimer(): void {
    this.#idleTimer?.clear()
    if (this.instances.size > 0) return
    this.#onEmpty?.()
    const { timeout } = this.#settings
    if (timeout > 0) {
      this.#idleTimer = after(timeout, () => void this.#beginShutdown(`idle for ${timeout} ms`))
    }
  }

  /** From the moment that there is none. An attempt that fails is no hub. */
  #startHubTimer(): void {
    const { hubTimeout } = this.#settings
    if (hubTimeout === 0) return
    this.#hubTimer ??= after(
      hubTimeout,
      () => void this.#beginShutdown(`no hub for ${hubTimeout} ms`),
    )
  }

  #notify(what: AgentNotice['what'], detail: string): void {
    this.#settings.onEvent?.({ what, detail })
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async startInstance(said: Record<string, unknown>, id: string): Promise<string> {
    if (
      this.#endReason !== undefined ||
      this.instances.has(id) ||
      this.instances.size >= this.#maxInstances
    ) {
      const why = this.#endReason !== undefined ? 'it is about to end' : 'it has no room for that'
      const message = `instance ${id} was not started by agent ${this.hubOptions.ident}: ${why}`
      throw new ManyhostError('MANYHOST_START_FAILED', message)
    }
    const guest = new AgentInstance(id, this)
    this.instances.set(id, guest)
    this.#idleTimer?.clear()
    try {
      const address = await guest.start(said, this.provider)
      this.#notify('started', `${id} at ${address}`)
      return address
    } catch (error) {
      this.#removeInstance(guest)
      throw error
    }
  }

  async stopInstance(id: string, grace: number): Promise<void> {
    const guest = this.instances.get(id)
    if (guest) await this.#stopAndRemove(guest, grace)
  }

  getInstance(id: string): AgentInstance {
    const guest = this.instances.get(id)
    if (guest) return guest
    throw new ManyhostError(
      'MANYHOST_INSTANCE_ENDED',
      `agent ${this.hubOptions.ident} has no ${id}`,
    )
  }

  async sendOutput(id: string, output: string): Promise<void> {
    await this.#requireLink().notif(code`log(${this.#fence}, ${id}, ${output})`)
  }

  async runStartup(id: string, where: object, env: Record<string, string>): Promise<void> {
    await this.#requireLink().request(code`startup(${this.#fence}, ${id}, ${where}, ${env})`)
  }

  notifyEnded(guest: AgentInstance): void {
    this.#notify('ended', `${guest.id}: ${guest.exit?.detail}`)
    if (this.#po) void this.#reportExit(guest, this.#po)
  }

  /** What it wrote while there was no link, and then its end: behind that the hub takes nothing of it. */
  async #sendBacklog(guest: AgentInstance, po: PostingEnd): Promise<void> {
    await guest.flushOutput()
    if (guest.exit) await this.#reportExit(guest, po)
  }

  /** Told again at the next link, until the hub has heard it. */
  async #reportExit(guest: AgentInstance, po: PostingEnd): Promise<void> {
    try {
      await po.request(code`exited(${this.#fence}, ${guest.id}, ${{ ...guest.exit }})`)
      this.#removeInstance(guest)
    } catch (error) {
      if (isFencedError(error)) this.#removeInstance(guest)
    }
  }

  /** How the server has ended a connection, or that there is none. */
  sendNotification(text: string): void {
    void this.#po?.notif(text).catch(() => {})
  }

  get fence(): number | undefined {
    return this.#fence
  }

  #requireLink(): PostingEnd {
    if (this.#po) return this.#po
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', 'the hub is away')
  }
}

function isFencedError(error: unknown): boolean {
  return error instanceof ManyhostError && error.code === 'MANYHOST_AGENT_FENCED'
}

/** Whether the next attempt may find it better: another key, or another program there, does not mend itself. */
function isRetryableError(error: Error): boolean {
  return (
    error instanceof ManyhostError &&
    error.code !== 'MANYHOST_WIRE_AUTH' &&
    error.code !== 'MANYHOST_INVALID_OPTION'
  )
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `runAgent: ${message}`)
}
