/** One instance: its container, the commands in it, and the connections to it, from create to remove. */
import type { Readable } from 'node:stream'
import type { ContainerCreateOptions } from 'dockerode'
import { describeError, type ManyhostError } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { resolveWithin, sleep, wallClock } from '../../src/core/time.ts'
import { endpointOf, openPool, type ServerEndpoint, tcpProbe } from '../shared/endpoint.ts'
import { InstanceLifecycle, type OutputListener } from '../shared/instance-lifecycle.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import { type ContainerFiles, downloadFromContainer, uploadToContainer } from './archive.ts'
import { type DockerCommandRun, executeInContainer } from './commands.ts'
import {
  createContainer,
  findPublishedPort,
  readExitState,
  requestContainerStop,
  startContainer,
} from './container.ts'
import { demultiplexOutput } from './demux.ts'
import type { DockerEngine } from './engine.ts'
import { exitOfContainer } from './exit.ts'

/** How long the last output may come after the end of the container, in ms. */
const OUTPUT_TIMEOUT = 1_000
/** The same for a container that was stopped, in ms: nobody waits for it, so a busy machine may be later. */
const STOPPED_OUTPUT_TIMEOUT = 5_000
/** How long a removal is tried while the engine cannot be reached, in ms. A later session removes what is left then. */
const REMOVE_RETRY_MS = 120_000

export interface DockerInstanceOptions {
  readonly engine: DockerEngine
  readonly body: ContainerCreateOptions
  readonly env: Record<string, string>
  readonly cwd: string | undefined
  /** The address that the server is told to listen on. */
  readonly listenOn: { readonly host: string; readonly port: number }
  /** The address that connections go to. Without a port, the engine says on which port the server's is published. */
  readonly reachedAt: { readonly host: string; readonly port: number | undefined }
  /** Fetches the image if the engine does not have it. */
  readonly fetchImage: ((signal: AbortSignal) => Promise<void>) | undefined
  readonly onGone: () => void
}

export class DockerInstance implements Running {
  readonly #lifecycle: InstanceLifecycle
  readonly #spec: StartSpec
  readonly #options: DockerInstanceOptions
  readonly #stopDeadline = new StopDeadline(() => void this.#remove())
  readonly #spawned = new Set<DockerCommandRun>()
  /** Aborted when the instance has ended. Until then its commands are read, also while it is asked to stop. */
  readonly #commands = new AbortController()
  #endpoint: ServerEndpoint | undefined
  #pool: ReturnType<typeof openPool> | undefined
  #id: string | undefined
  /** Resolves when the container was created, or could not be. A removal must wait for that. */
  #creating: Promise<unknown> = Promise.resolve()
  #logs: Promise<void> = Promise.resolve()
  #logStream: Readable | undefined
  #outOfMemory = false
  #wasKilled = false
  #hasEnded = false
  #removal: Promise<void> | undefined

  constructor(spec: StartSpec, options: DockerInstanceOptions) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#options = options
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  get dispatcher(): ReturnType<typeof openPool> {
    return this.#pool as ReturnType<typeof openPool>
  }

  get address(): string {
    return this.#endpoint?.address ?? ''
  }

  get #name(): string {
    return this.#options.body.name as string
  }

  /**
   * When it rejects, call `stop` to remove what was created.
   * @param retryMs how long the start waits for an engine that cannot be reached, in ms
   */
  begin(signal: AbortSignal, retryMs: number): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start(signal, retryMs))
  }

  async #start(signal: AbortSignal, retryMs: number): Promise<void> {
    const { engine, listenOn } = this.#options
    const given = AbortSignal.any([signal, this.#lifecycle.signal])
    const creating = this.#createContainer(given, retryMs)
    this.#creating = creating.catch(() => undefined)
    // Both at the same time: no event is missed, because a container cannot end before it was started.
    const [id] = await Promise.all([creating, engine.connectEvents({ signal: given, retryMs })])
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
    await startContainer(engine, id, given)
    this.#followOutput(id)
    const port =
      this.#options.reachedAt.port ?? (await findPublishedPort(engine, id, listenOn.port, given))
    this.#endpoint = endpointOf({ host: this.#options.reachedAt.host, port })
    this.#pool = openPool(this.#endpoint, this.#spec)
    await this.#lifecycle.runStartupFunction(this.#context(id), listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (this.#spec.startup && command) await this.#spawn(id, [command, ...args])
  }

  async #createContainer(signal: AbortSignal, retryMs: number): Promise<string> {
    const { engine, body, fetchImage } = this.#options
    this.#id = await createContainer(engine, body, fetchImage, { signal, retryMs })
    return this.#id
  }

  /** Passes the output on until its end. The engine may be away for some time meanwhile. */
  #followOutput(id: string): void {
    let since = 0
    const follow = async (): Promise<void> => {
      const stream = (await this.#options.engine.call(
        'read output',
        (docker) => {
          const options = { follow: true, stdout: true, stderr: true, since } as const
          return docker.getContainer(id).logs(options)
        },
        { retryMs: Number.POSITIVE_INFINITY, signal: this.#lifecycle.signal },
      )) as Readable
      this.#logStream = stream
      await demultiplexOutput(stream, (text) => this.#lifecycle.writeOutput(text))
    }
    const run = async (): Promise<void> => {
      for (;;) {
        await follow()
        if (this.#lifecycle.state !== 'up' || this.#hasEnded) return
        // Either the connection was lost, or the container has ended and its event is still to come.
        since = Math.floor(wallClock() / 1_000)
        await sleep(200, this.#lifecycle.signal)
        if (this.#hasEnded) return
      }
    }
    this.#logs = run().catch(() => undefined)
  }

  #context(id: string): StartupContext {
    const { engine, env, cwd } = this.#options
    const files: ContainerFiles = { engine, container: id, cwd: cwd ?? '/' }
    return {
      env,
      signal: this.#lifecycle.signal,
      run: (command, ...args) => this.#run(id, [command, ...args]),
      spawn: (command, ...args) => this.#spawn(id, [command, ...args]),
      upload: (local, remote) => uploadToContainer(files, local, remote),
      download: (remote, local) => downloadFromContainer(files, remote, local),
      log: (text) => this.#lifecycle.writeOutput(`${text}\n`),
    }
  }

  #run(id: string, command: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand(command, async (onText) => {
      const { ended } = await this.#execute(id, command, onText)
      return exitOfContainer(this.#endFacts(await ended)).detail
    })
  }

  async #spawn(id: string, command: readonly string[]): Promise<void> {
    const started = await this.#execute(id, command, (text) => this.#lifecycle.writeOutput(text))
    this.#spawned.add(started)
    void started.ended.then(
      (code) => {
        this.#spawned.delete(started)
        if (this.#lifecycle.state === 'up') this.#end(exitOfContainer(this.#endFacts(code)))
      },
      () => this.#spawned.delete(started),
    )
  }

  #execute(
    id: string,
    command: readonly string[],
    onText: OutputListener,
  ): Promise<DockerCommandRun> {
    const { engine, env, cwd } = this.#options
    const { signal } = this.#lifecycle
    // A startup function that ignores its signal must not start anything after the end.
    if (signal.aborted) return Promise.reject(signal.reason)
    return executeInContainer(engine, id, { command, env, cwd, onText }, this.#commands.signal)
  }

  #endFacts(exitCode: number | undefined) {
    const memory = this.#spec.resources?.memory
    return { exitCode, outOfMemory: this.#outOfMemory, wasKilled: this.#wasKilled, memory }
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#endpoint
      ? tcpProbe(this.#endpoint, signal)
      : Promise.reject(new Error('the instance has not started yet'))
  }

  /** The container has ended, or the engine does not have it any more. */
  async #onEnd(exitCode: number | undefined, isGone = false): Promise<void> {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#lifecycle.state === 'stopping') return void this.#remove()
    let code = exitCode
    if (!isGone && (code === undefined || code === 137)) {
      const state = await readExitState(this.#options.engine, this.#name)
      code = state?.ExitCode ?? code
      this.#outOfMemory ||= state?.OOMKilled ?? false
    }
    await resolveWithin(OUTPUT_TIMEOUT, this.#logs)
    if (this.#lifecycle.state === 'up') this.#end(exitOfContainer(this.#endFacts(code)))
  }

  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop() && grace > 0) void this.#requestStop()
    this.#stopDeadline.shorten(grace)
    return this.gone
  }

  /** Asks the container to end. If that is not possible, the stop deadline ends it. */
  async #requestStop(): Promise<void> {
    await this.#creating
    const { engine } = this.#options
    const id = this.#id
    if (id === undefined) return void this.#remove()
    try {
      if (this.#spec.startup) {
        const spawned = [...this.#spawned].map(({ ended }) => ended.catch(() => undefined))
        // The signal goes to all processes except the first one, which only keeps the container alive.
        const killAll = { command: ['sh', '-c', 'kill -TERM -1'], env: {}, cwd: '/', onText() {} }
        await (await executeInContainer(engine, id, killAll, this.#commands.signal)).ended
        await Promise.all(spawned)
        await this.#remove()
      } else {
        await requestContainerStop(engine, id)
      }
    } catch (error) {
      // 404, 409: the container has ended already. Its event may have come before it was asked to stop.
      const { statusCode } = error as { statusCode?: number }
      if (statusCode === 404 || (statusCode === 409 && this.#hasEnded)) await this.#remove()
    }
  }

  #remove(): Promise<void> {
    this.#removal ??= this.#removeNow()
    return this.#removal
  }

  async #removeNow(): Promise<void> {
    await this.#creating
    const { engine } = this.#options
    // The last output of a container that has ended is read before the removal. A running one ends by the removal itself.
    if (this.#hasEnded) await resolveWithin(STOPPED_OUTPUT_TIMEOUT, this.#logs)
    const removed = engine.remove(this.#id ?? this.#name, { retryMs: REMOVE_RETRY_MS })
    await removed.catch((error) =>
      this.#lifecycle.writeOutput(`\nmanyhost: ${describeError(error).trim()}\n`),
    )
    if (this.#lifecycle.state === 'stopping') this.#end({ reason: 'stopped', detail: 'stopped' })
  }

  #end(exit: Exit): void {
    this.#lifecycle.markEnded(exit, (error) => this.#cleanUp(error))
  }

  async #cleanUp(error: ManyhostError): Promise<void> {
    await Promise.allSettled([this.#pool?.destroy(error), this.#remove()])
    this.#stopDeadline.cancel()
    this.#commands.abort(error)
    for (const started of this.#spawned) started.disconnect()
    this.#logStream?.destroy()
    if (this.#id !== undefined) this.#options.engine.events.unwatch(this.#id)
    this.#options.onGone()
    this.#lifecycle.markGone()
  }
}
