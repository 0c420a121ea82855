/** One instance on one rented machine. */
import type { Pool } from 'undici'
import { asError, describe, type ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { afterIdly, now, type Timer, within } from '../../src/core/time.ts'
import { exitOfCode } from '../exit.ts'
import { Grace } from '../grace.ts'
import { Life, type OnText } from '../life.ts'
import { type Copies, download, upload } from './files.ts'
import type { Rented } from './market.ts'
import type { News, Seen } from './script.ts'
import { Lost, type Unit } from './unit.ts'

/** How long one look lasts while a startup function has more to ask, in ms. */
const SHORT_LOOK = 200

export interface Place {
  readonly rented: Rented
  readonly unit: Unit
  readonly listenOn: ListenOn
  readonly address: string
  readonly dispatcher: Pool
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  readonly volume: string
  readonly watch: number
  readonly drainBefore: number
  accepts(signal: AbortSignal): Promise<void>
}

interface Command {
  readonly seen: Seen
  readonly isSpawned: boolean
  readonly onText: OnText
  readonly onExit: (exit: Exit) => void
}

export class Instance implements Running {
  readonly dispatcher: Pool
  readonly address: string
  readonly leaving: Promise<string>
  readonly #life: Life
  readonly #spec: StartSpec
  readonly #place: Place
  readonly #env: Record<string, string>
  readonly #commands = new Map<number, Command>()
  readonly #grace = new Grace(() => this.#settleStopped())
  #count = 0
  #isStarting = true
  #isWatching = false
  #lastExit: Exit | undefined
  #timer: Timer | undefined

  constructor(spec: StartSpec, place: Place) {
    this.#spec = spec
    this.#life = new Life(spec)
    this.#place = place
    this.dispatcher = place.dispatcher
    this.address = place.address
    const { listenOn } = place
    this.#env = {
      ...place.env,
      ...spec.env,
      HOST: String(listenOn.host),
      PORT: String(listenOn.port),
    }
    this.leaving = new Promise((resolve) => {
      const ms = Math.max(0, place.rented.until - now() - place.drainBefore)
      this.#timer = afterIdly(ms, () => resolve('the time for which it is rented is nearly over'))
    })
    void place.rented.lost.then((detail) => this.#lost(detail))
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  /** When it rejects, `stop` is to be called. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#life.begin(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // With both, the function prepares what the command then serves.
    await this.#life.prepare(this.#context(), this.#place.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.#spawn(command, args)
    this.#isStarting = false
    // Also where nothing was spawned: a look that is answered says that the machine is there.
    void this.#watch()
  }

  #context(): StartupContext {
    const { unit, volume, cwd } = this.#place
    const copies: Copies = { unit, volume, cwd }
    return {
      env: this.#env,
      signal: this.#life.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => upload(copies, local, remote),
      download: (remote, local) => download(copies, remote, local),
      log: (text) => this.#life.write(`${text}\n`),
    }
  }

  async #spawn(command: string, args: readonly string[]): Promise<void> {
    await this.#launch(command, args, {
      isSpawned: true,
      onText: (text) => this.#life.write(text),
      onExit: (exit) => {
        this.#lastExit = exit
        if (this.#life.state === 'up') this.#end(exit, false)
      },
    })
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#life.run([command, ...args], async (onText) => {
      let onExit: (exit: Exit) => void = () => {}
      const ended = new Promise<Exit>((resolve) => {
        onExit = resolve
      })
      await this.#launch(command, args, { isSpawned: false, onText, onExit })
      return (await ended).detail
    })
  }

  async #launch(
    command: string,
    args: readonly string[],
    how: Omit<Command, 'seen'>,
  ): Promise<void> {
    // A startup function that does not look at its signal must not start anything behind our back.
    this.#life.signal.throwIfAborted()
    const { unit, cwd } = this.#place
    const number = ++this.#count
    await unit.launch({ number, command, args, cwd, env: { ...this.#env } })
    this.#commands.set(number, { ...how, seen: { number, out: 0, err: 0 } })
    if (this.#life.state === 'stopping') this.#signal('TERM')
    void this.#watch()
  }

  /** Looks again and again until it has ended. */
  async #watch(): Promise<void> {
    if (this.#isWatching) return
    this.#isWatching = true
    const { unit, watch } = this.#place
    try {
      while (this.#life.state !== 'ended') {
        const seen = [...this.#commands.values()].map((command) => command.seen)
        if (this.#isStarting && seen.length === 0) return
        const isHasty = this.#isStarting || this.#life.state === 'stopping'
        const news = await unit.look(seen, isHasty ? Math.min(SHORT_LOOK, watch) : watch)
        for (const one of news) this.#hear(one)
      }
    } catch (error) {
      this.#lost(error instanceof Lost ? error.message : describe(asError(error)))
    } finally {
      this.#isWatching = false
    }
  }

  #hear(news: News): void {
    const command = this.#commands.get(news.number)
    if (!command) return
    if (news.kind !== 'exit') return command.onText(news.text, news.kind === 'out')
    this.#commands.delete(news.number)
    command.onExit(exitOfCode(news.code))
    if (this.#life.state === 'stopping' && this.#commands.size === 0) this.#settleStopped()
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#place.accepts(signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#life.stop()) {
      if (this.#commands.size === 0) this.#settleStopped()
      else if (grace > 0) this.#signal('TERM')
    }
    if (this.#life.state === 'stopping') this.#grace.shorten(grace)
    return this.gone
  }

  #signal(name: 'TERM'): void {
    // Where it cannot be asked, the end of the grace decides.
    void this.#place.unit.signal([...this.#commands.keys()], name).catch(() => {})
  }

  #settleStopped(): void {
    const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
    if (this.#life.state !== 'ended')
      this.#end({ reason: 'stopped', detail: `stopped${how}` }, false)
  }

  #lost(detail: string): void {
    if (this.#life.state === 'stopping') this.#settleStopped()
    if (this.#life.state !== 'ended') this.#end({ reason: 'lost', detail }, true)
  }

  #end(exit: Exit, isItsFault: boolean): void {
    this.#grace.cancel()
    this.#timer?.clear()
    this.#place.unit.close()
    this.#life.end(exit, (error) => this.#clear(error, isItsFault))
    // Nobody waits for the end of a command any more.
    for (const { onExit, isSpawned } of this.#commands.values()) if (!isSpawned) onExit(exit)
    this.#commands.clear()
  }

  async #clear(error: ManyhostError, isItsFault: boolean): Promise<void> {
    await Promise.allSettled([
      within(CLEAR, this.dispatcher.destroy(error)),
      this.#place.rented.end(isItsFault),
    ])
    this.#life.leave()
  }
}

/** How long connections may take to break, in ms. */
const CLEAR = 5_000
