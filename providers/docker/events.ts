/**
 * What happens to a session's containers, from the engine's stream of events: no polling. The stream may break at any
 * time; after each connection all containers are listed, so that what happened in between is known as well.
 */
import type { Readable } from 'node:stream'
import { every, sleep, type Timer } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import type { DockerEngine } from './engine.ts'
import { SESSION_LABEL } from './labels.ts'

export interface DockerWatcher {
  onOutOfMemory(): void
  /** Somebody asked the engine to send it a signal. */
  onKill(): void
  /** It has ended; the code where the engine says it. */
  onEnd(exitCode: number | undefined): void
  /** The engine does not have it any more. */
  onGone(): void
}

/** How often it is made sure that a silent engine is still there, in ms. */
const PING_INTERVAL = 10_000
const PING_TIMEOUT = 5_000
/** Longest pause between two tries to connect, in ms. */
const MAX_RECONNECT_PAUSE = 500

export class DockerEvents {
  readonly #engine: DockerEngine
  readonly #session: string
  readonly #watchers = new Map<string, DockerWatcher>()
  #stream: Readable | undefined
  #connected: Promise<void> | undefined
  #setConnected: () => void = () => {}
  #ping: Timer | undefined
  #isClosed = false
  /** Whether what happens is told at once. */
  isConnected = false

  constructor(engine: DockerEngine, session: string) {
    this.#engine = engine
    this.#session = session
  }

  /** Resolves when nothing that happens from then on is missed. */
  whenConnected(): Promise<void> {
    if (!this.#connected) {
      this.#connected = new Promise((resolve) => {
        this.#setConnected = resolve
      })
      this.#ping = every(PING_INTERVAL, () => void this.#pingEngine())
      void this.#loop()
    }
    return this.#connected
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

  async #loop(): Promise<void> {
    for (let pause = 20; !this.#isClosed; pause = Math.min(2 * pause, MAX_RECONNECT_PAUSE)) {
      try {
        await this.#follow(() => {
          pause = 20
        })
      } catch {
        // Connected again below; who starts something hears of it by his own calls.
      }
      if (!this.#isClosed) await sleep(pause)
    }
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
    // Only if it is read: a failure of the list ends the reading, whose end nobody would await.
    reading.catch(() => undefined)
    try {
      await this.#listContainers()
      this.isConnected = true
      this.#setConnected()
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
    // Those that come while it is asked are none that it could answer for.
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

  /** A connection whose other end has vanished says nothing by itself. */
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
