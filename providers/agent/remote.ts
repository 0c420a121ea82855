/** An instance on an agent's machine, from here: its requests go over lanes, all else over the agent's link. */
import { asError, ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec } from '../../src/core/provider.ts'
import { safeContext } from '../../src/core/startup.ts'
import { code } from '../../src/wire/index.ts'
import { type Endpoint, openPool } from '../endpoint.ts'
import { Tail } from '../process/output.ts'
import { createContext } from './context.ts'
import type { Lanes } from './lanes.ts'
import { Member } from './member.ts'
import type { Transfers } from './transfers.ts'

/** How much of an instance's output its errors carry, in characters. */
const ERROR_OUTPUT = 4_096

export interface Roads {
  readonly lanes: Lanes
  readonly transfers: Transfers
}

export class Remote implements Running {
  readonly id: string
  readonly member: Member
  readonly exited: Promise<Exit>
  readonly leaving: Promise<string>
  /** Resolves when nothing of it is left, or nobody can tell any more. */
  readonly gone: Promise<void>
  address = ''
  readonly #spec: StartSpec
  readonly #roads: Roads
  readonly #abort = new AbortController()
  readonly #output = new Tail(ERROR_OUTPUT)
  #dispatcher: Running['dispatcher'] | undefined
  #state: 'up' | 'stopping' | 'ended' = 'up'
  /** What its startup function threw. */
  #thrown: unknown
  /** The shortest grace that was asked for; kept for an agent that is away. */
  #grace = Number.POSITIVE_INFINITY
  #exit: Exit | undefined
  #setExited!: (exit: Exit) => void
  #setLeaving!: (why: string) => void
  #setGone!: () => void

  constructor(spec: StartSpec, member: Member, roads: Roads) {
    this.id = spec.id
    this.#spec = spec
    this.member = member
    this.#roads = roads
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
  }

  get dispatcher(): Running['dispatcher'] {
    if (this.#dispatcher) return this.#dispatcher
    throw new ManyhostError('MANYHOST_START_FAILED', `instance ${this.id} has not started`)
  }

  /** Aborted when it ends, or is about to. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  get service(): string {
    return this.#spec.service
  }

  get output(): string {
    return this.#output.text
  }

  /** Whether the agent is to keep it, if it comes back. */
  get isWanted(): boolean {
    return this.#state === 'up' && this.#dispatcher !== undefined
  }

  /** Whether it has ended; its place is given back when its connections are closed as well. */
  get isOver(): boolean {
    return this.#state === 'ended'
  }

  /** Rejects when it could not be started, ended meanwhile or was given up, and then nothing is left of it. */
  async begin(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => void this.stop(0)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      signal.throwIfAborted()
      const said = await this.#ask()
      signal.throwIfAborted()
      if (this.#state === 'ended') throw this.#ended(this.#exit?.detail ?? 'it ended')
      this.#open(said)
    } catch (thrown) {
      const reason = signal.aborted ? signal.reason : (this.#thrown ?? thrown)
      await this.#giveUp()
      const what = `instance ${this.id} was not started by agent ${this.member.name}`
      throw Member.failure(reason, what, this.output, this.service)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #ask(): Promise<string> {
    const { id, service, command, startup, image, env, cwd, labels, resources, listen } = this.#spec
    const wanted = {
      id,
      service,
      hasStartup: startup !== undefined,
      concurrency: Math.min(this.#spec.concurrency, Number.MAX_SAFE_INTEGER),
      ...(command && { command: [...command] }),
      image,
      env: { ...env },
      cwd,
      labels: { ...labels },
      resources: resources && { ...resources },
      listen,
    }
    return String(await this.member.po.request(code`start(${wanted})`))
  }

  #open(said: string): void {
    const isHttp = /^http:\/\/[\w.:[\]-]+$/.test(said)
    const origin = isHttp ? said : 'http://localhost'
    const endpoint: Endpoint = { origin, listenOn: { host: 'lane', port: 1 }, address: said }
    const { lanes } = this.#roads
    this.address = `${said} on ${this.member.name}`
    this.#dispatcher = openPool(endpoint, this.#spec, (_, callback) => {
      lanes.open(this.member, this.id).then(
        (socket) => callback(null, socket),
        (error) => callback(asError(error), null),
      )
    })
  }

  /** Runs the service's own function; the agent has asked for it, and waits. */
  async startup(where: ListenOn, env: Record<string, string>): Promise<void> {
    const context = createContext(this, this.#roads.transfers, env)
    try {
      await this.#spec.startup?.(safeContext(context), where)
    } catch (error) {
      this.#thrown = error
      throw error
    }
  }

  write(text: string): void {
    this.#output.add(text)
    this.#spec.onOutput(text)
  }

  async accepts(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await this.member.po.request(code`knock(${this.id})`, { signal })
  }

  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      this.#abort.abort(this.#ended('stopped'))
    }
    if (grace < this.#grace && this.#state === 'stopping') {
      this.#grace = grace
      if (this.member.isUp) this.#askToStop()
    }
    return this.gone
  }

  /** Also when its agent has come back: it may not have heard. */
  resume(): void {
    if (this.#state === 'stopping') this.#askToStop()
  }

  #askToStop(): void {
    // Lost with the link: asked again when the agent returns, and not needed when it does not.
    this.member.stop(this.id, this.#grace).then(
      () => this.#end(this.#exit ?? { reason: 'stopped', detail: 'stopped' }),
      () => {},
    )
  }

  /** The start has failed: the agent has cleaned up, or is told to. */
  async #giveUp(): Promise<void> {
    if (this.#state !== 'ended') void this.stop(0)
    await this.gone
  }

  /** Its agent wants to go. */
  leave(why: string): void {
    this.#setLeaving(why)
  }

  /** Its agent says that it has ended. */
  ended(exit: Exit): void {
    if (this.#state === 'stopping') {
      this.#exit = exit.reason === 'stopped' ? exit : { ...exit, reason: 'stopped' }
      return
    }
    this.#exit = exit
    this.#end(exit)
  }

  /** Its agent is gone. */
  lost(why: string): void {
    this.#end({ reason: this.#state === 'stopping' ? 'stopped' : 'lost', detail: why })
  }

  #end(exit: Exit): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#setExited(exit)
    const error = this.#ended(exit.detail)
    this.#abort.abort(error)
    this.#roads.lanes.closeOf(this, error)
    // Whoever waits for `exited` hears of the end before its requests fail: a tick comes after all reactions.
    process.nextTick(() => void this.#clear(error))
  }

  async #clear(error: ManyhostError): Promise<void> {
    await this.#dispatcher?.destroy(error).catch(() => {})
    this.#setGone()
  }

  #ended(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.output,
    })
  }
}
