/** One instance on one rented machine. */
import type { Pool } from 'undici'
import { asError, describeError, type ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { afterUnref, now, resolveWithin, type Timer } from '../../src/core/time.ts'
import { exitOfCode } from '../shared/exit.ts'
import { InstanceLifecycle, type OutputListener } from '../shared/instance-lifecycle.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import { type GolemExeUnit, RentalLostError } from './exe-unit.ts'
import { downloadFromRental, type GolemFileContext, uploadToRental } from './files.ts'
import type { RentedMachine } from './market.ts'
import type { GolemCommandEvent, OutputProgress } from './scripts.ts'

/** How long one look lasts while a startup function has more to ask, in ms. */
const SHORT_LOOK_MS = 200

export interface GolemInstanceOptions {
  readonly rented: RentedMachine
  readonly unit: GolemExeUnit
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

interface GolemCommand {
  readonly seen: OutputProgress
  readonly isSpawned: boolean
  readonly onText: OutputListener
  readonly onExit: (exit: Exit) => void
}

export class GolemInstance implements Running {
  readonly dispatcher: Pool
  readonly address: string
  readonly leaving: Promise<string>
  readonly #lifecycle: InstanceLifecycle
  readonly #spec: StartSpec
  readonly #options: GolemInstanceOptions
  readonly #env: Record<string, string>
  readonly #commands = new Map<number, GolemCommand>()
  readonly #stopDeadline = new StopDeadline(() => this.#endAsStopped())
  #lastNumber = 0
  #isStarting = true
  #isWatching = false
  #lastExit: Exit | undefined
  #leavingTimer: Timer | undefined

  constructor(spec: StartSpec, place: GolemInstanceOptions) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#options = place
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
      const ms = Math.max(0, place.rented.rentedUntil - now() - place.drainBefore)
      this.#leavingTimer = afterUnref(ms, () =>
        resolve('the time for which it is rented is nearly over'),
      )
    })
    void place.rented.lost.then((detail) => this.#endAsLost(detail))
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  /** When it rejects, `stop` is to be called. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // With both, the function prepares what the command then serves.
    await this.#lifecycle.runStartupFunction(this.#context(), this.#options.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.#spawn(command, args)
    this.#isStarting = false
    // Also where nothing was spawned: a look that is answered says that the machine is there.
    void this.#watch()
  }

  #context(): StartupContext {
    const { unit, volume, cwd } = this.#options
    const copies: GolemFileContext = { unit, volume, cwd }
    return {
      env: this.#env,
      signal: this.#lifecycle.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => uploadToRental(copies, local, remote),
      download: (remote, local) => downloadFromRental(copies, remote, local),
      log: (text) => this.#lifecycle.writeOutput(`${text}\n`),
    }
  }

  async #spawn(command: string, args: readonly string[]): Promise<void> {
    await this.#launch(command, args, {
      isSpawned: true,
      onText: (text) => this.#lifecycle.writeOutput(text),
      onExit: (exit) => {
        this.#lastExit = exit
        if (this.#lifecycle.state === 'up') this.#end(exit, false)
      },
    })
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand([command, ...args], async (onText) => {
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
    how: Omit<GolemCommand, 'seen'>,
  ): Promise<void> {
    // A startup function that does not look at its signal must not start anything behind our back.
    this.#lifecycle.signal.throwIfAborted()
    const { unit, cwd } = this.#options
    const number = ++this.#lastNumber
    await unit.launch({ number, command, args, cwd, env: { ...this.#env } })
    this.#commands.set(number, { ...how, seen: { number, out: 0, err: 0 } })
    if (this.#lifecycle.state === 'stopping') this.#signal('TERM')
    void this.#watch()
  }

  /** Looks again and again until it has ended. */
  async #watch(): Promise<void> {
    if (this.#isWatching) return
    this.#isWatching = true
    const { unit, watch } = this.#options
    try {
      while (this.#lifecycle.state !== 'ended') {
        const seen = [...this.#commands.values()].map((command) => command.seen)
        if (this.#isStarting && seen.length === 0) return
        const isHasty = this.#isStarting || this.#lifecycle.state === 'stopping'
        const news = await unit.look(seen, isHasty ? Math.min(SHORT_LOOK_MS, watch) : watch)
        for (const one of news) this.#handleEvent(one)
      }
    } catch (error) {
      this.#endAsLost(
        error instanceof RentalLostError ? error.message : describeError(asError(error)),
      )
    } finally {
      this.#isWatching = false
    }
  }

  #handleEvent(news: GolemCommandEvent): void {
    const command = this.#commands.get(news.number)
    if (!command) return
    if (news.kind !== 'exit') return command.onText(news.text, news.kind === 'out')
    this.#commands.delete(news.number)
    command.onExit(exitOfCode(news.code))
    if (this.#lifecycle.state === 'stopping' && this.#commands.size === 0) this.#endAsStopped()
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#options.accepts(signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop()) {
      if (this.#commands.size === 0) this.#endAsStopped()
      else if (grace > 0) this.#signal('TERM')
    }
    if (this.#lifecycle.state === 'stopping') this.#stopDeadline.shorten(grace)
    return this.gone
  }

  #signal(name: 'TERM'): void {
    // Where it cannot be asked, the end of the grace decides.
    void this.#options.unit.signal([...this.#commands.keys()], name).catch(() => {})
  }

  #endAsStopped(): void {
    const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
    if (this.#lifecycle.state !== 'ended')
      this.#end({ reason: 'stopped', detail: `stopped${how}` }, false)
  }

  #endAsLost(detail: string): void {
    if (this.#lifecycle.state === 'stopping') this.#endAsStopped()
    if (this.#lifecycle.state !== 'ended') this.#end({ reason: 'lost', detail }, true)
  }

  #end(exit: Exit, isItsFault: boolean): void {
    this.#stopDeadline.cancel()
    this.#leavingTimer?.clear()
    this.#options.unit.close()
    this.#lifecycle.markEnded(exit, (error) => this.#cleanUp(error, isItsFault))
    // Nobody waits for the end of a command any more.
    for (const { onExit, isSpawned } of this.#commands.values()) if (!isSpawned) onExit(exit)
    this.#commands.clear()
  }

  async #cleanUp(error: ManyhostError, isItsFault: boolean): Promise<void> {
    await Promise.allSettled([
      resolveWithin(DESTROY_TIMEOUT, this.dispatcher.destroy(error)),
      this.#options.rented.end(isItsFault),
    ])
    this.#lifecycle.markGone()
  }
}

/** How long connections may take to break, in ms. */
const DESTROY_TIMEOUT = 5_000
