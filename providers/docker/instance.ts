/** One instance: its container, what was started in it, and the connections to it, from create to remove. */
import type { Readable } from 'node:stream'
import type { ContainerCreateOptions } from 'dockerode'
import { describe, type ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { sleep, wallClock, within } from '../../src/core/time.ts'
import { type Endpoint, endpointOf, knock, openPool } from '../endpoint.ts'
import { Grace } from '../grace.ts'
import { Life, type OnText } from '../life.ts'
import { download, type Files, upload } from './archive.ts'
import { execute, type Started } from './commands.ts'
import { ask, create, launch, published, stateOf } from './container.ts'
import { demux } from './demux.ts'
import type { Engine } from './engine.ts'
import { exitOf } from './exit.ts'

/** How long the end of the output is waited for after the end of the container, in ms. */
const LAST_WORDS = 1_000
/** How long it is waited for where nobody waits for the end itself: so much may a busy machine be late, in ms. */
const LAST_OUTPUT = 5_000
/** How long a removal is tried while nobody can reach the engine, in ms; the next session sweeps what is left then. */
const REMOVE_PATIENCE = 120_000

export interface Surroundings {
  readonly engine: Engine
  readonly body: ContainerCreateOptions
  readonly env: Record<string, string>
  readonly cwd: string | undefined
  /** Where the server is told to listen. */
  readonly listenOn: { readonly host: string; readonly port: number }
  /** Where it is reached; the port is the engine's to say where it is published. */
  readonly reachedAt: { readonly host: string; readonly port: number | undefined }
  /** Gets the image when the engine does not have it. */
  readonly fetchImage: ((signal: AbortSignal) => Promise<void>) | undefined
  readonly onGone: () => void
}

export class Instance implements Running {
  readonly #life: Life
  readonly #spec: StartSpec
  readonly #on: Surroundings
  readonly #grace = new Grace(() => void this.#remove())
  readonly #spawned = new Set<Started>()
  #endpoint: Endpoint | undefined
  #pool: ReturnType<typeof openPool> | undefined
  #id: string | undefined
  /** The container is made, or could not be; whoever removes it has to wait for that. */
  #making: Promise<unknown> = Promise.resolve()
  #logs: Promise<void> = Promise.resolve()
  #logStream: Readable | undefined
  #outOfMemory = false
  #wasKilled = false
  #removal: Promise<void> | undefined

  constructor(spec: StartSpec, surroundings: Surroundings) {
    this.#spec = spec
    this.#life = new Life(spec)
    this.#on = surroundings
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  get dispatcher(): ReturnType<typeof openPool> {
    return this.#pool as ReturnType<typeof openPool>
  }

  get address(): string {
    return this.#endpoint?.address ?? ''
  }

  get #name(): string {
    return this.#on.body.name as string
  }

  /** When it rejects, `stop` removes what there is. */
  begin(signal: AbortSignal, patience: number): Promise<void> {
    return this.#life.begin(signal, () => this.#start(signal, patience))
  }

  async #start(signal: AbortSignal, patience: number): Promise<void> {
    const { engine, listenOn } = this.#on
    const given = AbortSignal.any([signal, this.#life.signal])
    const making = this.#make(given, patience)
    this.#making = making.catch(() => undefined)
    // Beside each other: only what has started can end unseen.
    const [id] = await Promise.all([making, engine.reach({ signal: given, patience })])
    given.throwIfAborted()
    engine.events.watch(id, {
      onOutOfMemory: () => {
        this.#outOfMemory = true
      },
      onKill: () => {
        this.#wasKilled = true
      },
      onEnd: (exitCode) => void this.#onEnd(exitCode),
      onGone: () => void this.#onEnd(undefined, true),
    })
    await launch(engine, id, given)
    this.#follow(id)
    const port = this.#on.reachedAt.port ?? (await published(engine, id, listenOn.port, given))
    this.#endpoint = endpointOf({ host: this.#on.reachedAt.host, port })
    this.#pool = openPool(this.#endpoint, this.#spec)
    await this.#life.prepare(this.#context(id), listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (this.#spec.startup && command) await this.#spawn(id, [command, ...args])
  }

  async #make(signal: AbortSignal, patience: number): Promise<string> {
    const { engine, body, fetchImage } = this.#on
    this.#id = await create(engine, body, fetchImage, { signal, patience })
    return this.#id
  }

  /** Passes its output on until it ends; the engine may go and come back meanwhile. */
  #follow(id: string): void {
    let since = 0
    const follow = async (): Promise<void> => {
      const stream = (await this.#on.engine.call(
        'read output',
        (docker) => {
          const options = { follow: true, stdout: true, stderr: true, since } as const
          return docker.getContainer(id).logs(options)
        },
        { patience: Number.POSITIVE_INFINITY, signal: this.#life.signal },
      )) as Readable
      this.#logStream = stream
      await demux(stream, (text) => this.#life.write(text))
    }
    const run = async (): Promise<void> => {
      for (;;) {
        await follow()
        if (this.#life.state !== 'up' || this.#hasEnded) return
        // It ended for a reason that is not the container's end, or that end is about to be told.
        since = Math.floor(wallClock() / 1_000)
        await sleep(200, this.#life.signal)
        if (this.#hasEnded) return
      }
    }
    this.#logs = run().catch(() => undefined)
  }

  #context(id: string): StartupContext {
    const { engine, env, cwd } = this.#on
    const files: Files = { engine, container: id, cwd: cwd ?? '/' }
    return {
      env,
      signal: this.#life.signal,
      run: (command, ...args) => this.#run(id, [command, ...args]),
      spawn: (command, ...args) => this.#spawn(id, [command, ...args]),
      upload: (local, remote) => upload(files, local, remote),
      download: (remote, local) => download(files, remote, local),
      log: (text) => this.#life.write(`${text}\n`),
    }
  }

  #run(id: string, command: readonly string[]): Promise<string> {
    return this.#life.run(command, async (onText) => {
      const { ended } = await this.#execute(id, command, onText)
      return exitOf(this.#evidence(await ended)).detail
    })
  }

  async #spawn(id: string, command: readonly string[]): Promise<void> {
    const started = await this.#execute(id, command, (text) => this.#life.write(text))
    this.#spawned.add(started)
    void started.ended.then(
      (code) => {
        this.#spawned.delete(started)
        if (this.#life.state === 'up') this.#end(exitOf(this.#evidence(code)))
      },
      () => this.#spawned.delete(started),
    )
  }

  #execute(id: string, command: readonly string[], onText: OnText): Promise<Started> {
    const { engine, env, cwd } = this.#on
    const { signal } = this.#life
    // A startup function that does not look at its signal must not start anything behind our back.
    if (signal.aborted) return Promise.reject(signal.reason)
    return execute(engine, id, { command, env, cwd, onText }, this.#commands.signal)
  }

  /** Outlives the signal: while the instance is asked to stop, its commands are still listened to. */
  readonly #commands = new AbortController()

  #evidence(exitCode: number | undefined) {
    const memory = this.#spec.resources?.memory
    return { exitCode, outOfMemory: this.#outOfMemory, wasKilled: this.#wasKilled, memory }
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#endpoint ? knock(this.#endpoint, signal) : Promise.reject(new Error('not started'))
  }

  #hasEnded = false

  /** The container has ended, or is not there any more. */
  async #onEnd(exitCode: number | undefined, isGone = false): Promise<void> {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#life.state === 'stopping') return void this.#remove()
    let code = exitCode
    if (!isGone && (code === undefined || code === 137)) {
      const facts = await stateOf(this.#on.engine, this.#name)
      code = facts?.ExitCode ?? code
      this.#outOfMemory ||= facts?.OOMKilled ?? false
    }
    await within(LAST_WORDS, this.#logs)
    if (this.#life.state === 'up') this.#end(exitOf(this.#evidence(code)))
  }

  stop(grace: number): Promise<void> {
    if (this.#life.stop() && grace > 0) void this.#ask()
    this.#grace.shorten(grace)
    return this.gone
  }

  /** Politely. What cannot be asked is left to the end of the grace. */
  async #ask(): Promise<void> {
    await this.#making
    const { engine } = this.#on
    const id = this.#id
    if (id === undefined) return void this.#remove()
    try {
      if (this.#spec.startup) {
        const spawned = [...this.#spawned].map(({ ended }) => ended.catch(() => undefined))
        // To all but the first, which only waits.
        const everybody = { command: ['sh', '-c', 'kill -TERM -1'], env: {}, cwd: '/', onText() {} }
        await (await execute(engine, id, everybody, this.#commands.signal)).ended
        await Promise.all(spawned)
        await this.#remove()
      } else {
        await ask(engine, id)
      }
    } catch (error) {
      // 404, 409: it has ended already, whose event may have come before anybody asked.
      const { statusCode } = error as { statusCode?: number }
      if (statusCode === 404 || (statusCode === 409 && this.#hasEnded)) await this.#remove()
    }
  }

  #remove(): Promise<void> {
    this.#removal ??= this.#removeNow()
    return this.#removal
  }

  async #removeNow(): Promise<void> {
    await this.#making
    const { engine } = this.#on
    // What it wrote at its end is read before it is gone; one that is removed by force ends by that.
    if (this.#hasEnded) await within(LAST_OUTPUT, this.#logs)
    const removed = engine.remove(this.#id ?? this.#name, { patience: REMOVE_PATIENCE })
    await removed.catch((error) => this.#life.write(`\nmanyhost: ${describe(error).trim()}\n`))
    if (this.#life.state === 'stopping') this.#end({ reason: 'stopped', detail: 'stopped' })
  }

  #end(exit: Exit): void {
    this.#life.end(exit, (error) => this.#clear(error))
  }

  async #clear(error: ManyhostError): Promise<void> {
    await Promise.allSettled([this.#pool?.destroy(error), this.#remove()])
    this.#grace.cancel()
    this.#commands.abort(error)
    for (const started of this.#spawned) started.cut()
    this.#logStream?.destroy()
    if (this.#id !== undefined) this.#on.engine.events.forget(this.#id)
    this.#on.onGone()
    this.#life.leave()
  }
}
