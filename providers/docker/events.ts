/**
 * Follows the containers of a session by the engine's stream of events, without polling. The stream may break at any time.
 * After each connection all containers are listed, so that events of the meantime are not missed.
 */
import type { Readable } from 'node:stream'
import { deferred } from '../../src/core/deferred.ts'
import { every, type Timer } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import { reconnectLoop } from '../shared/reconnect-loop.ts'
import type { DockerCaller } from './docker-caller.ts'
import { SESSION_LABEL } from './labels.ts'

export interface DockerWatcher {
  onOutOfMemory(): void
  /** Somebody asked the engine to send a signal to the container. */
  onKill(): void
  /** The container has ended; the exit code where the engine says it. */
  onEnd(exitCode: number | undefined): void
  /** The engine does not have the container any more. */
  onGone(): void
}

/** The interval at which a silent engine is asked whether it is still there, in ms. */
const PING_INTERVAL = 10_000
const PING_TIMEOUT = 5_000

export class DockerEvents {
  readonly #engine: DockerCaller
  readonly #session: string
  readonly #watchers = new Map<string, DockerWatcher>()
  readonly #connected = deferred<void>()
  #stream: Readable | undefined
  #ping: Timer | undefined
  #isClosed = false
  /** Whether events are received at once. */
  isConnected = false

  constructor(engine: DockerCaller, session: string) {
    this.#engine = engine
    this.#session = session
  }

  /** Resolves when no event is missed from then on. The first call connects. */
  whenConnected(): Promise<void> {
    if (!this.#ping) {
      this.#ping = every(PING_INTERVAL, () => void this.#pingEngine())
      void reconnectLoop(
        (onConnected) => this.#follow(onConnected),
        () => this.#isClosed,
      )
    }
    return this.#connected.promise
  }

  watch(container: string, watcher: DockerWatcher): void {
    this.#watchers.set(container, watcher)
  }

  unwatch(container: string): void {
    this.#watchers.delete(container)
  }

  close(): void {
    this.#isClosed = true
    this.#ping?.clear()
    this.#stream?.destroy()
  }

  async #follow(onConnected: () => void): Promise<void> {
    const filters = JSON.stringify({
      type: ['container'],
      label: [`${SESSION_LABEL}=${this.#session}`],
    })
    const open = this.#engine.call(
      'follow events',
      (docker) => docker.getEvents({ filters } as object) as Promise<NodeJS.ReadableStream>,
      { retryMs: 0, timeoutMs: PING_TIMEOUT },
    )
    this.#stream = (await open) as Readable
    if (this.#isClosed) this.#stream.destroy()
    const reading = this.#read(this.#stream)
    // If the list fails, nobody awaits the reading: its failure must not become an unhandled rejection.
    reading.catch(() => undefined)
    try {
      await this.#listContainers()
      this.isConnected = true
      this.#connected.resolve()
      onConnected()
      await reading
    } finally {
      this.isConnected = false
      this.#stream.destroy()
    }
  }

  async #read(stream: Readable): Promise<void> {
    for await (const event of readJsonLines(stream)) this.#handleEvent(event)
  }

  #handleEvent(event: Record<string, unknown>): void {
    const actor = (event.Actor ?? {}) as { ID?: string; Attributes?: Record<string, string> }
    const watcher = this.#watchers.get(String(actor.ID ?? event.id))
    if (!watcher) return
    const action = String(event.Action ?? event.status)
    if (action === 'oom') watcher.onOutOfMemory()
    else if (action === 'kill') watcher.onKill()
    else if (action === 'destroy' || action === 'remove') watcher.onGone()
    else if (action === 'die' || action === 'died') {
      const code = Number(actor.Attributes?.exitCode ?? actor.Attributes?.containerExitCode)
      watcher.onEnd(Number.isInteger(code) ? code : undefined)
    }
  }

  async #listContainers(): Promise<void> {
    // The answer says nothing about containers that are created while the engine is asked.
    const watched = [...this.#watchers]
    if (watched.length === 0) return
    const filters = JSON.stringify({ label: [`${SESSION_LABEL}=${this.#session}`] })
    const all = await this.#engine.call(
      'list containers',
      (docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal } as object),
      { retryMs: 0 },
    )
    const states = new Map(all.map(({ Id, State }) => [Id, State]))
    for (const [id, watcher] of watched) {
      const state = states.get(id)
      if (state === undefined) watcher.onGone()
      else if (state === 'exited' || state === 'dead' || state === 'stopped')
        watcher.onEnd(undefined)
    }
  }

  /** A connection whose other end has vanished is silent, so the engine is asked. */
  async #pingEngine(): Promise<void> {
    if (!this.#stream || this.#watchers.size === 0) return
    const options = { retryMs: 0, timeoutMs: PING_TIMEOUT }
    try {
      await this.#engine.call('ping', (docker) => docker.ping(), options)
    } catch {
      this.#stream?.destroy()
    }
  }
}
