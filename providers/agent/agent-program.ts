/** The agent: dials its hub, runs the instances that the hub asks for, and ends them when it has lost the hub for too long. */
import { randomBytes } from 'node:crypto'
import { availableParallelism, hostname, loadavg, totalmem } from 'node:os'
import { backoffDelay } from '../../src/core/backoff.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type { ListenOn, Provider } from '../../src/core/provider.ts'
import { after, every, now, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import { code, type PostingEnd, type WireEnds } from '../../src/wire/index.ts'
import { processes } from '../process/index.ts'
import { type AgentCalls, createAgentHandlers } from './agent-handlers.ts'
import type { AgentInstance, HubReporter } from './agent-instance.ts'
import { AgentInstances, createRefusedStartError } from './agent-instances.ts'
import { AgentLease } from './agent-lease.ts'
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
/** A link that lived for as long as this, in ms, resets the backoff. */
const STEADY_AFTER = 10_000
/** For the answers to `hello` and `ready`, in ms. */
const GREETING_DEADLINE = 10_000
/** For the answer to `bye`, in ms. */
const GOODBYE_DEADLINE = 5_000

/**
 * Runs instances on this machine for the hub at `address`, until `signal` is aborted, or until the agent had no instance
 * for `timeout` ms, or no hub for `hubTimeout` ms. Resolves when all instances have ended. A hub that is away is dialled
 * again and again, with a growing delay.
 * @throws ManyhostError MANYHOST_INVALID_OPTION; MANYHOST_WIRE_AUTH when the hub has another key
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const settings = parseAgentOptions(options)
  if (!settings.key) throw createOptionError('key is missing: give the same key as the hub has')
  if (!settings.tls && !settings.insecure && !isLocalAddress(settings.address)) {
    throw createOptionError(
      `address ${settings.address} is on another machine: give tls, or insecure: true`,
    )
  }
  await new AgentProgram(settings, options.maxInstances).run()
}

class AgentProgram implements HubReporter, AgentCalls {
  readonly hubOptions: HubConnectOptions
  readonly #settings: AgentSettings
  readonly #maxInstances: number
  readonly #provider: Provider
  readonly #instances: AgentInstances
  readonly #bootId = randomBytes(16).toString('hex')
  /** Why the agent is shutting down; undefined while it is not. */
  #endReason: string | undefined
  readonly #endController = new AbortController()
  #po: PostingEnd | undefined
  #fence: number | undefined
  readonly #lease = new AgentLease((why) => void this.#endLease(why))
  #idleTimer: Timer | undefined
  #hubTimer: Timer | undefined

  constructor(settings: AgentSettings, maxInstances = availableParallelism()) {
    const { key, name = hostname(), address, tls, provider } = settings
    this.#settings = settings
    this.#maxInstances = maxInstances
    this.#provider = provider ?? processes()
    this.hubOptions = { address, tls, key: key as string, ident: name }
    this.#instances = new AgentInstances({
      agent: name,
      maxInstances,
      provider: this.#provider,
      reporter: this,
      notify: (what, detail) => this.#notify(what, detail),
      onCount: () => this.#restartIdleTimer(),
    })
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
      await this.#instances.stopAll(0)
      // After the stop, because the removal of the last instance starts the idle timer.
      this.#idleTimer?.clear()
      this.#hubTimer?.clear()
      this.#lease.stopTimer()
      // A provider that was given as an option is closed by the code that created it.
      if (!this.#settings.provider) await this.#provider.close?.()
    }
  }

  async #keepConnected(): Promise<void> {
    const range = { min: MIN_CONNECT_DELAY, max: this.#settings.maxDelay }
    for (let failures = 0; !this.#endController.signal.aborted; ) {
      const startedAt = now()
      try {
        const ends = await connectHub(this.hubOptions, (_, ho) => createAgentHandlers(this, ho))
        await this.#serveLink(ends)
      } catch (thrown) {
        const error = asError(thrown)
        if (!isRetryableError(error)) throw error
        this.#notify('lost', describeError(error))
      }
      if (this.#endController.signal.aborted) return
      if (now() - startedAt >= STEADY_AFTER) failures = 0
      const delay = backoffDelay(failures++, range, Math.random)
      await sleep(delay, this.#endController.signal).catch(() => {})
    }
  }

  /**
   * Serves one link, from its beginning to its end:
   * 1. Say hello, with the ids of all instances. The answer has the fence, and the ids that the hub wants to keep.
   * 2. End the instances that the hub does not want to keep, before anything new begins.
   * 3. Send what happened while there was no link: output, and exits.
   * 4. Say that the agent is ready. The hub places no instance on it before, because until now it has counted instances
   *    that have ended.
   * 5. Send heartbeats until the link ends.
   * 6. Start the timers that end the instances, or the agent, if no hub can be reached for too long.
   * @throws ManyhostError when the hub refuses the agent
   */
  async #serveLink({ po }: WireEnds): Promise<void> {
    let heartbeat: Timer | undefined
    const onEnded = (): void => void po.disconnect()
    this.#endController.signal.addEventListener('abort', onEnded, { once: true })
    try {
      // 1.
      const sentAt = now()
      const welcome = parseFields(
        await po.request(code`hello(${this.#describeSelf()})`, { deadline: GREETING_DEADLINE }),
      )
      this.#lease.begin(sentAt, parseCount(welcome.evictAfter))
      this.#hubTimer?.clear()
      this.#hubTimer = undefined
      this.#fence = parseCount(welcome.fence)
      // 2.
      await this.#instances.stopUnknown(new Set(parseTexts(welcome.keep)))
      // 3.
      this.#po = po
      await Promise.all(this.#instances.list().map((instance) => this.#sendBacklog(instance, po)))
      // 4.
      await po.request(code`ready(${this.#fence})`, { deadline: GREETING_DEADLINE })
      this.#notify('connected', `${this.hubOptions.address}, as ${this.hubOptions.ident}`)
      // 5.
      heartbeat = every(parseCount(welcome.beat), () => void this.#sendHeartbeat(po))
      if (this.#endReason !== undefined) void this.#leaveHub(this.#endReason)
      const reason = await po.waitDisconnected()
      if (!this.#endController.signal.aborted) this.#notify('lost', reason ?? 'the hub hung up')
    } finally {
      heartbeat?.clear()
      this.#endController.signal.removeEventListener('abort', onEnded)
      if (this.#po === po) this.#po = undefined
      void po.disconnect()
      // 6.
      if (this.#instances.size > 0) this.#lease.startTimer()
      else this.#lease.stopTimer()
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
      capabilities: [...this.#provider.capabilities],
      provider: this.#provider.name,
      instances: this.#instances.ids,
    }
  }

  async #sendHeartbeat(po: PostingEnd): Promise<void> {
    const sentAt = now()
    const load = (loadavg()[0] ?? 0) / availableParallelism()
    try {
      await po.request(code`load(${this.#fence}, ${load})`, { deadline: this.#lease.evictAfter })
      this.#lease.acknowledge(sentAt)
    } catch (error) {
      if (isFencedError(error)) await this.#endLease('the hub has evicted this agent')
      void po.disconnect(describeError(error))
    }
  }

  /** The hub has given up the instances, or is about to. */
  async #endLease(why: string): Promise<void> {
    if (this.#instances.size > 0) this.#notify('stopped', `all instances: ${why}`)
    this.#fence = undefined
    await this.#instances.stopAll(0)
  }

  /** From now on no instance is started, and the hub is asked to drain those that run. */
  async #beginShutdown(why: string): Promise<void> {
    if (this.#endReason !== undefined) return
    this.#endReason = why
    this.#notify('draining', `${this.#instances.size} instances: ${why}`)
    await this.#leaveHub(why)
  }

  async #leaveHub(why: string): Promise<void> {
    const po = this.#po
    if (po && this.#instances.size > 0) {
      const drained = po
        .request(code`leave(${this.#fence}, ${why.slice(0, 1_000)})`)
        .then(() => this.#instances.waitUntilEmpty())
      // Without the link nobody drains the instances, so its end is the end of the wait, too.
      const ended = Promise.race([drained.catch(() => {}), po.waitDisconnected()])
      await resolveWithin(this.#settings.drainTimeout, ended)
    }
    await this.#instances.stopAll(0)
    if (this.#po) {
      const bye = this.#po.request(code`bye(${this.#fence})`, { deadline: GOODBYE_DEADLINE })
      await bye.catch(() => {})
    }
    this.#notify('ending', why)
    this.#endController.abort()
  }

  #restartIdleTimer(): void {
    this.#idleTimer?.clear()
    const { timeout } = this.#settings
    if (timeout === 0 || this.#instances.size > 0) return
    this.#idleTimer = after(timeout, () => void this.#beginShutdown(`idle for ${timeout} ms`))
  }

  /** Runs from the end of the last link. An attempt to connect that fails does not restart it. */
  #startHubTimer(): void {
    const { hubTimeout } = this.#settings
    if (hubTimeout === 0) return
    this.#hubTimer ??= after(hubTimeout, () => {
      void this.#beginShutdown(`no hub for ${hubTimeout} ms`)
    })
  }

  #notify(what: AgentNotice['what'], detail: string): void {
    this.#settings.onEvent?.({ what, detail })
  }

  async startInstance(message: Record<string, unknown>, id: string): Promise<string> {
    if (this.#endReason === undefined) return this.#instances.start(message, id)
    throw createRefusedStartError(id, this.hubOptions.ident, 'it is shutting down')
  }

  stopInstance(id: string, grace: number): Promise<void> {
    return this.#instances.stop(id, grace)
  }

  getInstance(id: string): AgentInstance {
    return this.#instances.get(id)
  }

  async sendOutput(id: string, output: string): Promise<void> {
    await this.#requireLink().notif(code`log(${this.#fence}, ${id}, ${output})`)
  }

  async runStartup(id: string, listenOn: ListenOn, env: Record<string, string>): Promise<void> {
    await this.#requireLink().request(
      code`startup(${this.#fence}, ${id}, ${{ ...listenOn }}, ${env})`,
    )
  }

  notifyEnded(instance: AgentInstance): void {
    this.#notify('ended', `${instance.id}: ${instance.exit?.detail}`)
    if (this.#po) void this.#reportExit(instance, this.#po)
  }

  /** Sends the output first and the exit second: after an exit the hub takes no more output of the instance. */
  async #sendBacklog(instance: AgentInstance, po: PostingEnd): Promise<void> {
    await instance.flushOutput()
    if (instance.exit) await this.#reportExit(instance, po)
  }

  /** An exit that the hub has not acknowledged stays, and is reported again over the next link. */
  async #reportExit(instance: AgentInstance, po: PostingEnd): Promise<void> {
    try {
      await po.request(code`exited(${this.#fence}, ${instance.id}, ${{ ...instance.exit }})`)
      this.#instances.remove(instance)
    } catch (error) {
      if (isFencedError(error)) this.#instances.remove(instance)
    }
  }

  sendNotification(text: string): void {
    void this.#po?.notif(text).catch(() => {})
  }

  get fence(): number | undefined {
    return this.#fence
  }

  #requireLink(): PostingEnd {
    if (this.#po) return this.#po
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', 'the agent has no link to its hub')
  }
}

function isFencedError(error: unknown): boolean {
  return error instanceof ManyhostError && error.code === 'MANYHOST_AGENT_FENCED'
}

/** Whether the next attempt may succeed. A wrong key, and a peer that is no hub, will not change. */
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
