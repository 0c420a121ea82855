/** Instances as jobs of SlurmProvider, one each. */
import { randomBytes } from 'node:crypto'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { afterUnref } from '../../src/core/time.ts'
import { endpointOf, openPool, tcpProbe } from '../shared/endpoint.ts'
import { type RemoteAllocation, RemoteShellInstance } from '../shared/remote-shell/instance.ts'
import { batchScript } from './batch-script.ts'
import { SlurmCallbackServer, type SlurmJobConnection } from './callback.ts'
import { SlurmCommands } from './commands.ts'
import { isEndedState, type SlurmController } from './controller.ts'
import { SlurmJobComment } from './job-comment.ts'
import { SlurmJobQueue, type WatchedSlurmJob } from './job-queue.ts'
import { parseSlurmOptions, type SlurmOptions, type SlurmSettings } from './options.ts'
import { SlurmRest } from './rest.ts'

export type { SlurmOptions } from './options.ts'

/** Ports that a job may choose among: others of the node may have taken some. */
const PORTS_PER_INSTANCE = 8

/** sbatch is a process of its own each time; more at once only wait for each other. */
const MAX_SUBMISSIONS = 8

/**
 * Runs instances on a SlurmProvider cluster. None of them outlives this process by more than a moment, however it ends: a job
 * whose callback has gone ends itself.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function slurm(options: SlurmOptions = {}): Provider {
  return new SlurmProvider(parseSlurmOptions(options))
}

class SlurmProvider implements Provider {
  readonly name = 'slurm'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    // As for processes: the node is the image.
    'image',
    'resources',
  ])
  readonly #settings: SlurmSettings
  readonly #controller: SlurmController
  readonly #queue: SlurmJobQueue
  readonly #callback: SlurmCallbackServer
  readonly #marker = randomBytes(12).toString('hex')
  readonly #labels = new SlurmJobComment(this.#marker)
  readonly #instances = new Set<RemoteShellInstance>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()
  #nextPort: number
  #numSubmitting = 0
  readonly #submitQueue: (() => void)[] = []
  #swept: Promise<void> | undefined

  constructor(settings: SlurmSettings) {
    this.#settings = settings
    this.#controller =
      settings.rest === undefined ? new SlurmCommands(settings) : new SlurmRest(settings)
    this.#queue = new SlurmJobQueue(this.#controller, settings.pollInterval)
    this.#callback = new SlurmCallbackServer(settings.callback)
    const [from, to] = settings.ports
    this.#nextPort = from + Math.floor(Math.random() * (to - from + 1))
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (!spec.command?.[0] && !spec.startup) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs a command or a startup function to run as a job`,
      )
    }
    const either = AbortSignal.any([signal, this.#closing.signal])
    const starting = this.#start(spec, either)
    this.#starting.add(starting)
    const forget = (): void => void this.#starting.delete(starting)
    starting.then(forget, forget)
    return starting
  }

  async #start(spec: StartSpec, signal: AbortSignal): Promise<Running> {
    const port = await this.#callback.listen()
    this.#swept ??= this.#sweep()
    await this.#swept
    const secret = randomBytes(24).toString('base64url')
    const expected = this.#callback.expectJob(spec.id, secret)
    let job: WatchedSlurmJob | undefined
    try {
      if (signal.aborted) throw signal.reason
      const { host } = this.#settings.callback
      const token = `${spec.id}.${secret}`
      const script = batchScript({ id: spec.id, host, port, token, ports: this.#nextPorts() })
      job = await this.#submit(spec, script)
      const place = await this.#waitForArrival(spec, expected, job, signal)
      const instance = new RemoteShellInstance(spec, place)
      this.#instances.add(instance)
      void instance.gone.then(() => this.#instances.delete(instance))
      try {
        await instance.begin(signal)
      } catch (error) {
        await instance.stop(0)
        throw error
      }
      return instance
    } catch (error) {
      await this.#endJob(spec, expected, job)
      if (error instanceof ManyhostError) throw error
      throw this.#createStartError(
        spec,
        signal.aborted ? 'it was given up' : describeError(error),
        error,
      )
    }
  }

  async #submit(spec: StartSpec, script: string): Promise<WatchedSlurmJob> {
    if (this.#numSubmitting >= MAX_SUBMISSIONS) {
      await new Promise<void>((resolve) => this.#submitQueue.push(resolve))
    } else this.#numSubmitting++
    try {
      const { cpus = this.#settings.cpus, memory = this.#settings.memory } = spec.resources ?? {}
      const id = await this.#controller.submit({
        name: spec.id,
        script,
        comment: this.#labels.format(spec),
        cpus: cpus === undefined ? undefined : Math.ceil(cpus),
        memory,
      })
      return this.#queue.watch(id)
    } catch (error) {
      // A controller that did not answer may have taken the job all the same.
      void this.#cancelNamed(spec.id)
      throw error
    } finally {
      const next = this.#submitQueue.shift()
      if (next) next()
      else this.#numSubmitting--
    }
  }

  async #cancelNamed(name: string): Promise<void> {
    try {
      const jobs = await this.#controller.listJobs()
      const ids = jobs
        .filter((job) => job.name === name && !isEndedState(job.state))
        .map(({ id }) => id)
      await this.#controller.cancel(ids, true)
    } catch {
      // It has nobody to call back to, and ends itself.
    }
  }

  /** Waits until the job runs. */
  async #waitForArrival(
    spec: StartSpec,
    expected: SlurmJobConnection,
    job: WatchedSlurmJob,
    signal: AbortSignal,
  ): Promise<RemoteAllocation> {
    let onAbort = (): void => {}
    const ended = new Promise<never>((_, reject) => {
      onAbort = () => reject(signal.reason)
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      void job.over.then(({ state, reason }) => {
        const { host, port } = this.#settings.callback
        const hint = `; its output says nothing: can its node reach ${host}:${port ?? '(any port)'}?`
        reject(
          new Error(`job ${job.id} ended as ${state} (${reason}) before it called back${hint}`),
        )
      })
    })
    try {
      const { port, host, node } = await Promise.race([expected.arrived, ended])
      if (port === 0) throw new Error(`node ${node} has no free port among those that were tried`)
      return this.#createAllocation(spec, expected, job, {
        host: this.#settings.host ?? host,
        port,
      })
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  #createAllocation(
    spec: StartSpec,
    expected: SlurmJobConnection,
    job: WatchedSlurmJob,
    listenOn: { readonly host: string; readonly port: number },
  ): RemoteAllocation {
    const endpoint = endpointOf(listenOn)
    const cancelled = expected.over.then(
      (why): Exit => ({
        reason: why === 'cancelled' ? 'killed' : 'lost',
        detail: `job ${job.id} ${why === 'cancelled' ? 'was cancelled' : 'has hung up'}`,
      }),
    )
    return {
      machine: expected,
      listenOn,
      address: endpoint.address,
      dispatcher: openPool(endpoint, spec),
      env: this.#settings.env,
      cwd: spec.cwd ?? this.#settings.cwd,
      marker: this.#marker,
      lost: Promise.race([cancelled, job.over.then((end) => exitOfJob(end))]),
      leaving: this.#whenLeaving(expected),
      accepts: (signal) => tcpProbe(endpoint, signal),
      explain: (exit) => this.#explainExit(spec, expected, job, exit),
      release: () => this.#endJob(spec, expected, job),
    }
  }

  /** slurmrestd takes no signal for the batch script: where it is asked, the clock is ours. */
  #whenLeaving(expected: SlurmJobConnection): Promise<string> {
    const { rest, timeLimit, drainBefore } = this.#settings
    if (rest === undefined || timeLimit === undefined) return expected.leaving
    const ours = new Promise<string>((resolve) => {
      const ms = 1_000 * (60 * timeLimit - drainBefore)
      const timer = afterUnref(ms, () => resolve('the time limit of its job is near'))
      void expected.over.then(() => timer.clear())
    })
    return Promise.race([expected.leaving, ours])
  }

  /** What was seen is that something was killed or has hung up; SlurmProvider may know why. */
  async #explainExit(
    { resources }: StartSpec,
    { ranOutOfMemory }: SlurmJobConnection,
    job: WatchedSlurmJob,
    exit: Exit,
  ): Promise<Exit> {
    if (exit.reason === 'exited') return exit
    if (ranOutOfMemory) {
      const { memory = this.#settings.memory } = resources ?? {}
      const limit = memory === undefined ? '' : ` (limit ${memory} bytes)`
      return { reason: 'out-of-memory', detail: `out of memory${limit}: ${exit.detail}` }
    }
    const end = await job.findEnd()
    return end ? exitOfJob(end, exit) : exit
  }

  async #endJob(
    spec: StartSpec,
    expected: SlurmJobConnection,
    job: WatchedSlurmJob | undefined,
  ): Promise<void> {
    await expected.close()
    if (!job || (await job.cancel())) return
    spec.onOutput(`\nmanyhost: job ${job.id} was cancelled; Slurm has not said that it has ended\n`)
  }

  /** Ends what sessions of this machine and user have left that are no more. */
  async #sweep(): Promise<void> {
    if (this.#settings.adopt === 'keep') return
    try {
      const jobs = await this.#controller.listJobs()
      const left = jobs.filter(({ state, comment }) => {
        return !isEndedState(state) && this.#labels.isOrphan(comment)
      })
      await this.#controller.cancel(
        left.map(({ id }) => id),
        true,
      )
    } catch {
      // They end themselves; the next start asks again.
      this.#swept = undefined
    }
  }

  /** Of one session no two instances try the same, wherever they run. */
  #nextPorts(): number[] {
    const [from, to] = this.#settings.ports
    return Array.from({ length: Math.min(PORTS_PER_INSTANCE, to - from + 1) }, () => {
      this.#nextPort = this.#nextPort >= to ? from : this.#nextPort + 1
      return this.#nextPort
    })
  }

  async close(): Promise<void> {
    this.#closing.abort(
      new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider slurm was closed'),
    )
    await Promise.allSettled(this.#starting)
    await Promise.all([...this.#instances].map((instance) => instance.stop(0)))
    this.#queue.close()
    this.#callback.close()
    this.#controller.close?.()
  }

  #createStartError(spec: StartSpec, why: string, cause: unknown): ManyhostError {
    const text = `instance ${spec.id} was not started: ${why}`
    return new ManyhostError('MANYHOST_START_FAILED', text, {
      service: spec.service,
      cause: asError(cause),
    })
  }
}

/** How a job's end is told, in the words of `Exit`. */
function exitOfJob({ state, reason }: { state: string; reason: string }, seen?: Exit): Exit {
  const detail = `its job ended as ${state}${reason && reason !== 'None' ? ` (${reason})` : ''}`
  if (state === 'OUT_OF_MEMORY')
    return { reason: 'out-of-memory', detail: `${detail}: out of memory` }
  if (state === 'CANCELLED' || state === 'TIMEOUT' || state === 'PREEMPTED') {
    return { reason: 'killed', detail }
  }
  if (
    state === 'NODE_FAIL' ||
    state === 'BOOT_FAIL' ||
    state === 'REQUEUED' ||
    state === 'PENDING'
  ) {
    return { reason: 'lost', detail }
  }
  return seen ?? { reason: 'lost', detail }
}
