/** Runs instances as jobs of Slurm, one job for each. */
import { randomBytes } from 'node:crypto'
import { settleOrAbort } from '../../src/core/abort.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { Semaphore } from '../../src/core/semaphore.ts'
import { afterUnref } from '../../src/core/time.ts'
import { endpointOf, openPool, tcpProbe } from '../shared/endpoint.ts'
import { PortSequence } from '../shared/port-sequence.ts'
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

/** Number of ports that a job may choose from: other programs of the node may have taken some. */
const PORTS_PER_INSTANCE = 8

/** Number of submissions at a time. Each is a process of sbatch; more of them would only wait for each other. */
const MAX_SUBMISSIONS = 8

/**
 * Runs instances on a Slurm cluster. None of them outlives this process by more than a moment, however it ends: a job
 * whose callback connection has ended ends itself.
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
  readonly #comments = new SlurmJobComment(this.#marker)
  readonly #instances = new Set<RemoteShellInstance>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()
  readonly #ports: PortSequence
  readonly #submissions = new Semaphore(MAX_SUBMISSIONS)
  #swept: Promise<void> | undefined

  constructor(settings: SlurmSettings) {
    this.#settings = settings
    this.#controller =
      settings.rest === undefined ? new SlurmCommands(settings) : new SlurmRest(settings)
    this.#queue = new SlurmJobQueue(this.#controller, settings.pollInterval)
    this.#callback = new SlurmCallbackServer(settings.callback)
    this.#ports = new PortSequence(settings.ports)
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
      const ports = this.#ports.take(PORTS_PER_INSTANCE)
      const script = batchScript({ id: spec.id, host, port, token, ports })
      job = await this.#submissions.run(() => this.#submit(spec, script))
      const allocation = await this.#waitForArrival(spec, expected, job, signal)
      const instance = new RemoteShellInstance(spec, allocation)
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
        signal.aborted ? 'the start was given up' : describeError(error),
        error,
      )
    }
  }

  async #submit(spec: StartSpec, script: string): Promise<WatchedSlurmJob> {
    try {
      const { cpus = this.#settings.cpus, memory = this.#settings.memory } = spec.resources ?? {}
      const id = await this.#controller.submit({
        name: spec.id,
        script,
        comment: this.#comments.format(spec),
        cpus: cpus === undefined ? undefined : Math.ceil(cpus),
        memory,
      })
      return this.#queue.watch(id)
    } catch (error) {
      // A controller that did not answer may have accepted the job all the same.
      void this.#cancelNamed(spec.id)
      throw error
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
      // The job cannot call back, so it ends itself.
    }
  }

  /** Waits until the job runs. */
  async #waitForArrival(
    spec: StartSpec,
    expected: SlurmJobConnection,
    job: WatchedSlurmJob,
    signal: AbortSignal,
  ): Promise<RemoteAllocation> {
    const ended = job.over.then(({ state, reason }): never => {
      const { host, port } = this.#settings.callback
      throw new Error(
        `job ${job.id} ended as ${state} (${reason}) before it called back; can its node reach ${host}:${port ?? '(any port)'}?`,
      )
    })
    const arrival = Promise.race([expected.arrived, ended])
    const { port, host, node } = await settleOrAbort(arrival, signal)
    if (port === 0) {
      throw new Error(
        `node ${node} has no free port among the ${PORTS_PER_INSTANCE} that were tried; option \`ports\` sets the range`,
      )
    }
    return this.#createAllocation(spec, expected, job, { host: this.#settings.host ?? host, port })
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
        detail: `job ${job.id} ${why === 'cancelled' ? 'was cancelled' : 'closed its connection'}`,
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

  /** slurmrestd has no option for a signal to the batch script, so with `rest` the time is measured here. */
  #whenLeaving(expected: SlurmJobConnection): Promise<string> {
    const { rest, timeLimit, drainBefore } = this.#settings
    if (rest === undefined || timeLimit === undefined) return expected.leaving
    const nearLimit = new Promise<string>((resolve) => {
      const ms = 1_000 * (60 * timeLimit - drainBefore)
      const timer = afterUnref(ms, () => resolve('the time limit of its job is near'))
      void expected.over.then(() => timer.clear())
    })
    return Promise.race([expected.leaving, nearLimit])
  }

  /** Something was killed, or has closed its connection: Slurm may know why. */
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

  /** Cancels the jobs that ended sessions of this machine and user left. */
  async #sweep(): Promise<void> {
    if (this.#settings.adopt === 'keep') return
    try {
      const jobs = await this.#controller.listJobs()
      const orphans = jobs.filter(({ state, comment }) => {
        return !isEndedState(state) && this.#comments.isOrphan(comment)
      })
      await this.#controller.cancel(
        orphans.map(({ id }) => id),
        true,
      )
    } catch {
      // The jobs end themselves; the next start tries again.
      this.#swept = undefined
    }
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

/** The end of a job as an `Exit`. @param seen the end that was seen, for states that say no more than that */
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
