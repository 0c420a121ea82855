/** One instance, on a rented machine of its own. */
import type { Pool } from 'undici'
import { deferred } from '../../src/core/deferred.ts'
import { asError, describeError, type ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { afterUnref, now, resolveWithin, type Timer } from '../../src/core/time.ts'
import { listenEnvironment } from '../shared/endpoint.ts'
import { exitOfCode } from '../shared/exit.ts'
import { InstanceLifecycle, type OutputListener } from '../shared/instance-lifecycle.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import { type GolemExeUnit, RentalLostError } from './exe-unit.ts'
import { downloadFromRental, type GolemFileContext, uploadToRental } from './files.ts'
import type { RentedMachine } from './market.ts'
import type { GolemCommandEvent, OutputProgress } from './scripts.ts'

/** Longest time of one look while a startup function has more to ask, in ms. */
const SHORT_LOOK_MS = 200

/** How long the connections may take to break, in ms. */
const DESTROY_TIMEOUT = 5_000

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

  constructor(spec: StartSpec, options: GolemInstanceOptions) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#options = options
    const { dispatcher, address, listenOn, rented, drainBefore } = options
    this.dispatcher = dispatcher
    this.address = address
    this.#env = {
      ...options.env,
      ...spec.env,
      ...listenEnvironment(listenOn),
      MANYHOST_INSTANCE: spec.id,
    }
    const ms = Math.max(0, rented.rentedUntil - now() - drainBefore)
    this.#leavingTimer = afterUnref(ms, () =>
      this.#lifecycle.announceLeaving('the time for which it is rented is nearly over'),
    )
    void rented.lost.then((detail) => this.#endAsLost(detail))
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  get leaving(): Promise<string> {
    return this.#lifecycle.leaving
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  /** When it rejects, call `stop`. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // A service may have both: the function prepares what the command then serves.
    await this.#lifecycle.runStartupFunction(this.#context(), this.#options.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.#spawn(command, args)
    this.#isStarting = false
    // Also if nothing was spawned: each answer shows that the machine still exists.
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
      const ended = deferred<Exit>()
      await this.#launch(command, args, { isSpawned: false, onText, onExit: ended.resolve })
      return (await ended.promise).detail
    })
  }

  async #launch(
    command: string,
    args: readonly string[],
    how: Omit<GolemCommand, 'seen'>,
  ): Promise<void> {
    // A startup function that ignores its signal must not start anything after the end.
    this.#lifecycle.signal.throwIfAborted()
    const { unit, cwd } = this.#options
    const number = ++this.#lastNumber
    await unit.launch({ number, command, args, cwd, env: { ...this.#env } })
    this.#commands.set(number, { ...how, seen: { number, out: 0, err: 0 } })
    if (this.#lifecycle.state === 'stopping') this.#signal('TERM')
    void this.#watch()
  }

  /** Looks at the commands again and again, until the instance has ended. */
  async #watch(): Promise<void> {
    if (this.#isWatching) return
    this.#isWatching = true
    const { unit, watch } = this.#options
    try {
      while (this.#lifecycle.state !== 'ended') {
        const seen = [...this.#commands.values()].map((command) => command.seen)
        if (this.#isStarting && seen.length === 0) return
        const isShort = this.#isStarting || this.#lifecycle.state === 'stopping'
        const events = await unit.look(seen, isShort ? Math.min(SHORT_LOOK_MS, watch) : watch)
        for (const event of events) this.#handleEvent(event)
      }
    } catch (error) {
      this.#endAsLost(
        error instanceof RentalLostError ? error.message : describeError(asError(error)),
      )
    } finally {
      this.#isWatching = false
    }
  }

  #handleEvent(event: GolemCommandEvent): void {
    const command = this.#commands.get(event.number)
    if (!command) return
    if (event.kind !== 'exit') return command.onText(event.text, event.kind === 'out')
    this.#commands.delete(event.number)
    command.onExit(exitOfCode(event.code))
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
    // If the signal cannot be sent, the stop deadline ends the instance.
    void this.#options.unit.signal([...this.#commands.keys()], name).catch(() => {})
  }

  #endAsStopped(): void {
    const detail = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
    if (this.#lifecycle.state !== 'ended')
      this.#end({ reason: 'stopped', detail: `stopped${detail}` }, false)
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
    // Commands of `ctx.run` are waited for, and nobody looks at them any more.
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
