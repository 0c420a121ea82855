/** One instance on one rented machine. */
import type { Pool } from 'undici'
import { asError, describe, ManyhostError } from '../../src/errors.ts'
import type { Exit, ListenOn, Running, StartSpec, StartupContext } from '../../src/provider.ts'
import { afterIdly, type Timer, wallClock, within } from '../../src/time.ts'
import { exitOfCode } from '../exit.ts'
import { Grace } from '../grace.ts'
import { lastLine, Tail } from '../process/output.ts'
import { type Copies, download, upload } from './files.ts'
import type { Rented } from './market.ts'
import type { News, Seen } from './script.ts'
import { Lost, type Unit } from './unit.ts'

/** How much of an instance's output its errors carry, in characters. */
const ERROR_OUTPUT = 4_096

/** How much of its standard output `ctx.run` resolves with: the last of it, in characters. */
const RUN_OUTPUT = 1_048_576

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
  readonly onText: (text: string, isStdout: boolean) => void
  readonly onExit: (exit: Exit) => void
}

export class Instance implements Running {
  readonly dispatcher: Pool
  readonly exited: Promise<Exit>
  readonly address: string
  readonly leaving: Promise<string>
  /** Resolves when nothing of it is left. */
  readonly gone: Promise<void>
  readonly #spec: StartSpec
  readonly #place: Place
  readonly #env: Record<string, string>
  readonly #commands = new Map<number, Command>()
  readonly #abort = new AbortController()
  readonly #output = new Tail(ERROR_OUTPUT)
  readonly #grace = new Grace(() => this.#settleStopped())
  #count = 0
  #isStarting = true
  #isWatching = false
  #state: 'up' | 'stopping' | 'ended' = 'up'
  #lastExit: Exit | undefined
  #timer: Timer | undefined
  #setExited: (exit: Exit) => void = () => {}
  #setGone: () => void = () => {}

  constructor(spec: StartSpec, place: Place) {
    this.#spec = spec
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
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
    this.leaving = new Promise((resolve) => {
      const ms = Math.max(0, place.rented.until - wallClock() - place.drainBefore)
      this.#timer = afterIdly(ms, () => resolve('the time for which it is rented is nearly over'))
    })
    void place.rented.lost.then((detail) => this.#lost(detail))
  }

  /** Rejects when it could not be started, ended meanwhile or was given up; `stop` is to be called then. */
  async begin(signal: AbortSignal): Promise<void> {
    const givenUp = (): ManyhostError => this.#failure('it was given up', signal.reason)
    if (signal.aborted) throw givenUp()
    let onAbort = (): void => {}
    const ended = new Promise<never>((_, reject) => {
      onAbort = () => reject(givenUp())
      signal.addEventListener('abort', onAbort, { once: true })
      void this.exited.then(({ detail }) => reject(this.#failure(`it ended: ${detail}`)))
    })
    try {
      await Promise.race([this.#startup(), ended])
    } catch (error) {
      throw error instanceof ManyhostError
        ? error
        : this.#failure(`the startup function threw: ${describe(error)}`, error)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #startup(): Promise<void> {
    const { startup, command } = this.#spec
    // With both, the function prepares what the command then serves.
    if (startup) await startup(this.#context(), this.#place.listenOn)
    if (command) await this.#spawn(command[0] ?? '', command.slice(1))
    this.#isStarting = false
    // Also where nothing was spawned: a look that is answered says that the machine is there.
    void this.#watch()
  }

  #context(): StartupContext {
    const { unit, volume, cwd } = this.#place
    const copies: Copies = { unit, volume, cwd }
    return {
      env: this.#env,
      signal: this.#abort.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => upload(copies, local, remote),
      download: (remote, local) => download(copies, remote, local),
      log: (text) => this.#write(`${text}\n`),
    }
  }

  async #spawn(command: string, args: readonly string[]): Promise<void> {
    await this.#launch(command, args, {
      isSpawned: true,
      onText: (text) => this.#write(text),
      onExit: (exit) => {
        this.#lastExit = exit
        if (this.#state === 'up') this.#end(exit, false)
      },
    })
  }

  async #run(command: string, args: readonly string[]): Promise<string> {
    const stdout = new Tail(RUN_OUTPUT)
    const output = new Tail(ERROR_OUTPUT)
    let onExit: (exit: Exit) => void = () => {}
    const ended = new Promise<Exit>((resolve) => {
      onExit = resolve
    })
    await this.#launch(command, args, {
      isSpawned: false,
      onText: (text, isStdout) => {
        output.add(text)
        if (isStdout) stdout.add(text)
        this.#write(text)
      },
      onExit,
    })
    const { detail } = await ended
    this.#abort.signal.throwIfAborted()
    if (detail === 'exit code 0') return stdout.text
    const line = lastLine(output.text)
    throw new ManyhostError(
      'MANYHOST_RUN_FAILED',
      `'${[command, ...args].join(' ').slice(0, 200)}' failed: ${detail}${line && `: ${line}`}`,
      { service: this.#spec.service, output: output.text },
    )
  }

  async #launch(
    command: string,
    args: readonly string[],
    how: Omit<Command, 'seen'>,
  ): Promise<void> {
    // A startup function that does not look at its signal must not start anything behind our back.
    this.#abort.signal.throwIfAborted()
    const { unit, cwd } = this.#place
    const number = ++this.#count
    await unit.launch({ number, command, args, cwd, env: { ...this.#env } })
    this.#commands.set(number, { ...how, seen: { number, out: 0, err: 0 } })
    if (this.#state === 'stopping') this.#signal('TERM')
    void this.#watch()
  }

  /** Looks again and again until it has ended. */
  async #watch(): Promise<void> {
    if (this.#isWatching) return
    this.#isWatching = true
    const { unit, watch } = this.#place
    try {
      while (this.#state !== 'ended') {
        const seen = [...this.#commands.values()].map((command) => command.seen)
        if (this.#isStarting && seen.length === 0) return
        const isHasty = this.#isStarting || this.#state === 'stopping'
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
    if (this.#state === 'stopping' && this.#commands.size === 0) this.#settleStopped()
  }

  #write(text: string): void {
    this.#output.add(text)
    this.#spec.onOutput(text)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#place.accepts(signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#state === 'up') {
      this.#state = 'stopping'
      this.#abort.abort(this.#ended('stopped'))
      if (this.#commands.size === 0) this.#settleStopped()
      else if (grace > 0) this.#signal('TERM')
    }
    if (this.#state === 'stopping') this.#grace.shorten(grace)
    return this.gone
  }

  #signal(name: 'TERM'): void {
    // Where it cannot be asked, the end of the grace decides.
    void this.#place.unit.signal([...this.#commands.keys()], name).catch(() => {})
  }

  #settleStopped(): void {
    const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
    if (this.#state !== 'ended') this.#end({ reason: 'stopped', detail: `stopped${how}` }, false)
  }

  #lost(detail: string): void {
    if (this.#state === 'stopping') this.#settleStopped()
    if (this.#state !== 'ended') this.#end({ reason: 'lost', detail }, true)
  }

  #end(exit: Exit, isItsFault: boolean): void {
    this.#state = 'ended'
    this.#grace.cancel()
    this.#timer?.clear()
    this.#place.unit.close()
    this.#setExited(exit)
    const error = this.#ended(exit.detail)
    this.#abort.abort(error)
    // Nobody waits for the end of a command any more.
    for (const { onExit, isSpawned } of this.#commands.values()) if (!isSpawned) onExit(exit)
    this.#commands.clear()
    // Whoever waits for `exited` hears of the end before its requests fail: a tick comes after all reactions.
    process.nextTick(() => void this.#clear(error, isItsFault))
  }

  async #clear(error: ManyhostError, isItsFault: boolean): Promise<void> {
    await Promise.allSettled([
      within(CLEAR, this.dispatcher.destroy(error)),
      this.#place.rented.end(isItsFault),
    ])
    this.#setGone()
  }

  #ended(detail: string): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: ${detail}`, {
      service,
      output: this.#output.text,
    })
  }

  #failure(why: string, cause?: unknown): ManyhostError {
    if (cause instanceof ManyhostError) return cause
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_START_FAILED', `instance ${id} was not started: ${why}`, {
      service,
      output: this.#output.text,
      ...(cause !== undefined && { cause }),
    })
  }
}

/** How long connections may take to break, in ms. */
const CLEAR = 5_000
