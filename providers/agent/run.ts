/** The agent: dials its hub, runs what it is told to, and ends it when it has lost its hub for too long. */
import { randomBytes } from 'node:crypto'
import { availableParallelism, hostname, loadavg, totalmem } from 'node:os'
import { asError, describe, ManyhostError } from '../../src/core/errors.ts'
import type { Provider } from '../../src/core/provider.ts'
import { after, every, now, sleep, type Timer, within } from '../../src/core/time.ts'
import { code, type Ends, type PostingEnd } from '../../src/wire/index.ts'
import { backoff } from '../../src/wire/reconnect.ts'
import { processes } from '../process/index.ts'
import { connectHub, type Way } from './connect.ts'
import { Guest, type Reports } from './guest.ts'
import {
  type AgentNotice,
  type AgentOptions,
  type AgentSettings,
  isLocal,
  parseAgent,
} from './options.ts'
import { count, fields, texts } from './said.ts'
import { serveHub } from './served.ts'

/** First wait between two attempts to connect, in ms. */
const MIN_DELAY = 200

/**
 * Runs instances on this machine for the hub at `address`, until `signal` is aborted, or until it has had none for
 * `timeout` ms. Resolves when all of them have ended. A hub that is away is waited for, for `hubTimeout` ms.
 * @throws ManyhostError MANYHOST_INVALID_OPTION; MANYHOST_WIRE_AUTH when the hub has another key
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const settings = parseAgent(options)
  if (!settings.key) throw invalid('key is needed: the hub has it too')
  if (!settings.tls && !settings.insecure && !isLocal(settings.address)) {
    throw invalid(`${settings.address} is another machine: give tls, or say insecure: true`)
  }
  await new Agent(settings, options.places).run()
}

export class Agent implements Reports {
  readonly guests = new Map<string, Guest>()
  readonly provider: Provider
  readonly way: Way
  readonly #settings: AgentSettings
  readonly #places: number
  readonly #boot = randomBytes(16).toString('hex')
  /** Whether it is to end, and why. */
  #ending: string | undefined
  readonly #ended = new AbortController()
  #po: PostingEnd | undefined
  #fence: number | undefined
  #evictAfter = 15_000
  /** When the last message left that the hub has acknowledged: the hub has heard us then, or later. */
  #provenAt = now()
  #lease: Timer | undefined
  #idle: Timer | undefined
  #hubless: Timer | undefined

  constructor(settings: AgentSettings, places: number | undefined) {
    const { key, name = hostname(), address, tls, provider } = settings
    this.#settings = settings
    this.#places = places ?? availableParallelism()
    this.provider = provider ?? processes()
    this.way = { address, tls, key: key as string, ident: name }
  }

  async run(): Promise<void> {
    const { signal } = this.#settings
    const onAbort = (): void => void this.#end(describe(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    if (signal?.aborted) onAbort()
    this.#watchIdle()
    this.#watchHub()
    try {
      await this.#stayConnected()
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#idle?.clear()
      this.#hubless?.clear()
      this.#lease?.clear()
      await this.#stopAll(0)
      // One that was given to us is its maker's to close.
      if (!this.#settings.provider) await this.provider.close?.()
    }
  }

  async #stayConnected(): Promise<void> {
    const { maxDelay } = this.#settings
    for (let failures = 0; !this.#ended.signal.aborted; ) {
      const begun = now()
      try {
        const ends = await connectHub(this.way, (_, ho) => serveHub(this, ho))
        await this.#during(ends)
      } catch (thrown) {
        const error = asError(thrown)
        if (!mayMend(error)) throw error
        this.#say('lost', describe(error))
      }
      if (this.#ended.signal.aborted) return
      // A link that lived for a while begins the count anew.
      failures = now() - begun >= 10_000 ? 1 : failures + 1
      const delay = backoff(failures, MIN_DELAY, maxDelay, Math.random)
      await sleep(delay, this.#ended.signal).catch(() => {})
    }
  }

  /** As long as the link lives. @throws ManyhostError when the hub does not take us */
  async #during({ po }: Ends): Promise<void> {
    let beats: Timer | undefined
    const onEnded = (): void => void po.disconnect()
    this.#ended.signal.addEventListener('abort', onEnded, { once: true })
    try {
      const sentAt = now()
      const welcome = fields(await po.request(code`hello(${this.#self()})`, { deadline: 10_000 }))
      this.#provenAt = sentAt
      this.#lease?.clear()
      this.#hubless?.clear()
      this.#hubless = undefined
      this.#fence = count(welcome.fence)
      this.#evictAfter = count(welcome.evictAfter)
      await this.#keep(new Set(texts(welcome.keep)))
      this.#po = po
      // It counts as back when all of that was heard: not before, or it would be given places that are still taken.
      await Promise.all([...this.guests.values()].map((guest) => this.#catchUp(guest, po)))
      await po.request(code`ready(${this.#fence})`, { deadline: 10_000 })
      this.#say('connected', `${this.way.address}, as ${this.way.ident}`)
      beats = every(count(welcome.beat), () => void this.#beat(po))
      if (this.#ending !== undefined) void this.#leave(this.#ending)
      const reason = await po.waitDisconnected()
      if (!this.#ended.signal.aborted) this.#say('lost', reason ?? 'the hub hung up')
    } finally {
      beats?.clear()
      this.#ended.signal.removeEventListener('abort', onEnded)
      if (this.#po === po) this.#po = undefined
      void po.disconnect()
      this.#holdOn()
      this.#watchHub()
    }
  }

  #self(): Record<string, unknown> {
    const { labels, cpus, memory } = this.#settings
    return {
      boot: this.#boot,
      fence: this.#fence,
      name: this.way.ident,
      places: this.#places,
      cpus: cpus ?? availableParallelism(),
      memory: memory ?? totalmem(),
      labels,
      capabilities: [...this.provider.capabilities],
      provider: this.provider.name,
      instances: [...this.guests.keys()],
    }
  }

  /** What the hub does not know, or has given to another, ends before anything new begins. */
  async #keep(kept: ReadonlySet<string>): Promise<void> {
    const strangers = [...this.guests.values()].filter(({ id, exit }) => !kept.has(id) && !exit)
    if (strangers.length > 0)
      this.#say('stopped', `${strangers.length} that the hub has no use for`)
    await Promise.all(strangers.map((guest) => this.#stop(guest, 0)))
  }

  async #beat(po: PostingEnd): Promise<void> {
    const sentAt = now()
    const load = (loadavg()[0] ?? 0) / availableParallelism()
    try {
      await po.request(code`load(${this.#fence}, ${load})`, { deadline: this.#evictAfter })
      this.#provenAt = sentAt
    } catch (error) {
      if (isFenced(error)) await this.#lost('the hub has evicted us')
      void po.disconnect(describe(error))
    }
  }

  /**
   * A lease (Gray and Cheriton 1989): the hub hears of us after we have sent, and evicts `evictAfter` after that; so what
   * we end `evictAfter` after we sent has ended, on our clock, before the hub gives its work to somebody else.
   */
  #holdOn(): void {
    this.#lease?.clear()
    if (this.guests.size === 0) return
    const left = Math.max(0, this.#provenAt + this.#evictAfter - now())
    this.#lease = after(left, () => void this.#lost(`no hub for ${this.#evictAfter} ms`))
  }

  async #lost(why: string): Promise<void> {
    if (this.guests.size > 0) this.#say('stopped', `all instances: ${why}`)
    this.#fence = undefined
    await this.#stopAll(0)
  }

  async #stopAll(grace: number): Promise<void> {
    await Promise.all([...this.guests.values()].map((guest) => this.#stop(guest, grace)))
  }

  async #stop(guest: Guest, grace: number): Promise<void> {
    await guest.stop(grace).catch((error) => this.#say('stopped', describe(error)))
    this.#forget(guest)
  }

  #forget(guest: Guest): void {
    if (this.guests.get(guest.id) !== guest) return
    this.guests.delete(guest.id)
    this.#watchIdle()
  }

  /** Begins to end: nothing new, and the hub is asked to drain what there is. */
  async #end(why: string): Promise<void> {
    if (this.#ending !== undefined) return
    this.#ending = why
    this.#say('draining', `${this.guests.size} instances: ${why}`)
    await this.#leave(why)
  }

  async #leave(why: string): Promise<void> {
    const po = this.#po
    if (po && this.guests.size > 0) {
      const drained = po
        .request(code`leave(${this.#fence}, ${why.slice(0, 1_000)})`)
        .then(() => this.#empty())
      // A link that ends meanwhile ends the wait as well: nobody drains us then.
      const over = Promise.race([drained.catch(() => {}), po.waitDisconnected()])
      await within(this.#settings.drainTimeout, over)
    }
    await this.#stopAll(0)
    if (this.#po) {
      const bye = this.#po.request(code`bye(${this.#fence})`, { deadline: 5_000 })
      await bye.catch(() => {})
    }
    this.#say('ending', why)
    this.#ended.abort()
  }

  #onEmpty: (() => void) | undefined
  #empty(): Promise<void> {
    if (this.guests.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onEmpty = resolve
    })
  }

  #watchIdle(): void {
    this.#idle?.clear()
    if (this.guests.size > 0) return
    this.#onEmpty?.()
    const { timeout } = this.#settings
    if (timeout > 0) {
      this.#idle = after(timeout, () => void this.#end(`idle for ${timeout} ms`))
    }
  }

  /** From the moment that there is none. An attempt that fails is no hub. */
  #watchHub(): void {
    const { hubTimeout } = this.#settings
    if (hubTimeout === 0) return
    this.#hubless ??= after(hubTimeout, () => void this.#end(`no hub for ${hubTimeout} ms`))
  }

  #say(what: AgentNotice['what'], detail: string): void {
    this.#settings.onEvent?.({ what, detail })
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async start(said: Record<string, unknown>, id: string): Promise<string> {
    if (this.#ending !== undefined || this.guests.has(id) || this.guests.size >= this.#places) {
      const why = this.#ending !== undefined ? 'it is about to end' : 'it has no room for that'
      const message = `instance ${id} was not started by agent ${this.way.ident}: ${why}`
      throw new ManyhostError('MANYHOST_START_FAILED', message)
    }
    const guest = new Guest(id, this)
    this.guests.set(id, guest)
    this.#idle?.clear()
    try {
      const address = await guest.start(said, this.provider)
      this.#say('started', `${id} at ${address}`)
      return address
    } catch (error) {
      this.#forget(guest)
      throw error
    }
  }

  async stop(id: string, grace: number): Promise<void> {
    const guest = this.guests.get(id)
    if (guest) await this.#stop(guest, grace)
  }

  guest(id: string): Guest {
    const guest = this.guests.get(id)
    if (guest) return guest
    throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `agent ${this.way.ident} has no ${id}`)
  }

  async log(id: string, output: string): Promise<void> {
    await this.#link().notif(code`log(${this.#fence}, ${id}, ${output})`)
  }

  async startup(id: string, where: object, env: Record<string, string>): Promise<void> {
    await this.#link().request(code`startup(${this.#fence}, ${id}, ${where}, ${env})`)
  }

  ended(guest: Guest): void {
    this.#say('ended', `${guest.id}: ${guest.exit?.detail}`)
    if (this.#po) void this.#report(guest, this.#po)
  }

  /** What it wrote while there was no link, and then its end: behind that the hub takes nothing of it. */
  async #catchUp(guest: Guest, po: PostingEnd): Promise<void> {
    await guest.flush()
    if (guest.exit) await this.#report(guest, po)
  }

  /** Told again at the next link, until the hub has heard it. */
  async #report(guest: Guest, po: PostingEnd): Promise<void> {
    try {
      await po.request(code`exited(${this.#fence}, ${guest.id}, ${{ ...guest.exit }})`)
      this.#forget(guest)
    } catch (error) {
      if (isFenced(error)) this.#forget(guest)
    }
  }

  /** How the server has ended a connection, or that there is none. */
  tell(text: string): void {
    void this.#po?.notif(text).catch(() => {})
  }

  get fence(): number | undefined {
    return this.#fence
  }

  #link(): PostingEnd {
    if (this.#po) return this.#po
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', 'the hub is away')
  }
}

function isFenced(error: unknown): boolean {
  return error instanceof ManyhostError && error.code === 'MANYHOST_AGENT_FENCED'
}

/** Whether the next attempt may find it better: another key, or another program there, does not mend itself. */
function mayMend(error: Error): boolean {
  return (
    error instanceof ManyhostError &&
    error.code !== 'MANYHOST_WIRE_AUTH' &&
    error.code !== 'MANYHOST_INVALID_OPTION'
  )
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `runAgent: ${message}`)
}
