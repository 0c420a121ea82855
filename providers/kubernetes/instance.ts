/** One instance: its pod, the commands in it, and the connections to it, from create to delete. */
import type { V1Pod } from '@kubernetes/client-node'
import type { Pool } from 'undici'
import { deferred } from '../../src/core/deferred.ts'
import { describeError } from '../../src/core/errors.ts'
import { OutputTail } from '../../src/core/output-tail.ts'
import type { Exit, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { after, resolveWithin, sleep, type Timer } from '../../src/core/time.ts'
import {
  InstanceLifecycle,
  MAX_ERROR_OUTPUT,
  type OutputListener,
} from '../shared/instance-lifecycle.ts'
import { forwardText } from '../shared/output.ts'
import { StopDeadline } from '../shared/stop-deadline.ts'
import type { KubernetesApi } from './api.ts'
import { executeInPod, type PodContainer, whenReadToEnd } from './exec.ts'
import { downloadFromPod, uploadToPod } from './files.ts'
import { SERVER_CONTAINER } from './names.ts'
import { connectToPod, type PodConnection } from './pod-connection.ts'
import type { PodEvents } from './pod-events.ts'
import { PodLogs } from './pod-logs.ts'
import { createPod, deletePod, findPodUid, type PodRequest } from './pod-requests.ts'
import {
  exitOfPod,
  isContainerRunning,
  leavingReason,
  permanentWaitReason,
  unschedulableReason,
} from './pod-status.ts'
import { backgroundScript, foregroundScript, type PodCommandScript } from './startup-scripts.ts'

/** How long the last output may come after the end of the container, in ms. */
const OUTPUT_TIMEOUT = 1_000
/** The same for a pod that was stopped, in ms: nobody waits for it, so a busy machine may be later. */
const STOPPED_OUTPUT_TIMEOUT = 5_000
/** How long a deletion is tried while the API server cannot be reached, in ms. A later session deletes what is left. */
const REMOVE_RETRY_MS = 120_000
/** How long after the end of a pod's grace its node may report the end, in ms. Then the pod is deleted by force. */
const NODE_TIMEOUT = 20_000

export interface KubernetesInstanceOptions {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly events: PodEvents
  readonly manifest: V1Pod
  readonly env: Record<string, string>
  readonly cwd: string | undefined
  readonly listenOn: { readonly host: string; readonly port: number }
  readonly reach: 'pod-ip' | 'forward'
}

export class KubernetesInstance implements Running {
  readonly #lifecycle: InstanceLifecycle
  readonly #spec: StartSpec
  readonly #options: KubernetesInstanceOptions
  readonly #name: string
  readonly #containerEnv: Readonly<Record<string, string>>
  readonly #stopDeadline = new StopDeadline(() => void this.#remove(0))
  readonly #logs: PodLogs
  /** Resolves when the container runs. */
  readonly #running = deferred<V1Pod>()
  #connection: PodConnection | undefined
  #uid: string | undefined
  /** Resolves when the pod was created, or could not be. A deletion must wait for that. */
  #creating: Promise<unknown> = Promise.resolve()
  #following: Promise<void> | undefined
  #finishing: Promise<void> | undefined
  #hasEnded = false
  #isGone = false
  #waitsFor: string | undefined
  #forceDeleteTimer: Timer | undefined
  #terminatingTimer: Timer | undefined

  constructor(spec: StartSpec, options: KubernetesInstanceOptions) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#options = options
    this.#containerEnv = { ...options.env }
    this.#name = options.manifest.metadata?.name as string
    this.#logs = new PodLogs(this.#container, (text) => this.#lifecycle.writeOutput(text))
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

  get dispatcher(): Pool {
    return this.#connection?.pool as Pool
  }

  get address(): string {
    return this.#connection?.address ?? ''
  }

  get #podRequest(): PodRequest {
    const { api, namespace, manifest } = this.#options
    return { api, namespace, manifest }
  }

  get #container(): PodContainer {
    const { api, namespace } = this.#options
    return { api, namespace, pod: this.#name, container: SERVER_CONTAINER }
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#connection
      ? this.#connection.accepts(signal)
      : Promise.reject(new Error('the instance has not started yet'))
  }

  /**
   * When it rejects, call `stop` to delete what was created.
   * @param retryMs how long the start waits for an API server that cannot be reached, in ms
   */
  begin(signal: AbortSignal, retryMs: number): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start(signal, retryMs))
  }

  async #start(signal: AbortSignal, retryMs: number): Promise<void> {
    const { events, listenOn, reach, api, namespace } = this.#options
    const given = AbortSignal.any([signal, this.#lifecycle.signal])
    const isCreated = (): boolean => this.#uid !== undefined
    events.watch(this.#name, {
      get isCreated() {
        return isCreated()
      },
      onPod: (pod) => this.#onPod(pod),
      onGone: () => this.#onGone(),
    })
    const creating = this.#createPod(given, retryMs)
    this.#creating = creating.catch(() => undefined)
    // Both at the same time: the watch begins with a list, which shows what has happened to the pod before.
    await Promise.all([creating, events.connect()])
    const pod = await this.#running.promise
    this.#followOutput()
    const { port } = listenOn
    const ip = pod.status?.podIP ?? ''
    this.#connection = connectToPod({
      api,
      namespace,
      pod: this.#name,
      ip,
      port,
      reach,
      spec: this.#spec,
    })
    await this.#lifecycle.runStartupFunction(this.#context(), listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (this.#spec.startup && command) await this.#spawn(command, args)
    given.throwIfAborted()
  }

  async #createPod(signal: AbortSignal, retryMs: number): Promise<void> {
    const made = await createPod(this.#podRequest, { signal, retryMs })
    this.#uid = made.metadata?.uid
    this.#onPod(made)
  }

  #onPod(pod: V1Pod): void {
    const { metadata, spec } = pod
    // Another uid: somebody else has created a pod of the same name after ours was deleted.
    if (this.#uid !== undefined && metadata?.uid !== this.#uid) return
    const exit = exitOfPod(pod, SERVER_CONTAINER, this.#spec.resources?.memory)
    if (exit) return void this.#onEnd(exit, pod)
    if (isContainerRunning(pod, SERVER_CONTAINER)) this.#running.resolve(pod)
    else {
      const why = permanentWaitReason(pod, SERVER_CONTAINER)
      if (why) return void this.#onEnd({ reason: 'lost', detail: why }, pod)
      const waitsFor = unschedulableReason(pod)
      if (waitsFor && waitsFor !== this.#waitsFor)
        this.#lifecycle.writeOutput(`manyhost: waits: ${waitsFor}\n`)
      this.#waitsFor = waitsFor
    }
    const leaving = leavingReason(pod)
    if (!leaving || this.#lifecycle.state !== 'up') return
    this.#lifecycle.announceLeaving(leaving)
    if (!metadata?.deletionTimestamp) return
    // If its node has failed, a pod stays Terminating until somebody removes the node.
    const seconds = metadata.deletionGracePeriodSeconds ?? spec?.terminationGracePeriodSeconds ?? 30
    this.#terminatingTimer ??= after(
      1_000 * seconds,
      () => void this.#onEnd({ reason: 'lost', detail: leaving }),
    )
  }

  #onGone(): void {
    this.#isGone = true
    void this.#onEnd({ reason: 'lost', detail: 'its pod was deleted by somebody else' })
    if (this.#lifecycle.state !== 'up') this.#finish()
  }

  /** The container has ended, or the cluster does not have it any more. */
  async #onEnd(exit: Exit, pod?: V1Pod): Promise<void> {
    if (this.#hasEnded) return
    this.#hasEnded = true
    // The container may have ended before it was seen to run. Its output says why.
    if (pod?.status?.containerStatuses?.some(({ state }) => state?.terminated)) this.#followOutput()
    await resolveWithin(
      this.#lifecycle.state === 'up' ? OUTPUT_TIMEOUT : STOPPED_OUTPUT_TIMEOUT,
      this.#following ?? Promise.resolve(),
    )
    if (this.#lifecycle.state === 'up') this.#end(exit)
    else if (this.#lifecycle.state === 'stopping') void this.#remove(0)
  }

  /** Passes the output on until its end. The API server may be away for some time meanwhile. */
  #followOutput(): void {
    const run = async (): Promise<void> => {
      for (;;) {
        const wasOver = this.#hasEnded
        const isRead = await this.#logs.follow().then(
          () => true,
          () => false,
        )
        // An output that was read to its end after the end of the container is complete.
        if ((isRead && wasOver) || this.#isGone || this.#lifecycle.state === 'ended') return
        await sleep(wasOver ? 50 : 200)
      }
    }
    this.#following ??= run()
  }

  #context(): StartupContext {
    const { env, cwd } = this.#options
    return {
      env,
      signal: this.#lifecycle.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => uploadToPod(this.#container, local, remote, cwd),
      download: (remote, local) => downloadFromPod(this.#container, remote, local, cwd),
      log: (text) => this.#lifecycle.writeOutput(`${text}\n`),
    }
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand([command, ...args], async (onText) => {
      const code = await this.#execute(foregroundScript(this.#commandScript(command, args)), onText)
      return `exit code ${code}`
    })
  }

  /** The pod ends with the command, so its end is the end of the instance. */
  async #spawn(command: string, args: readonly string[]): Promise<void> {
    const errors = new OutputTail(MAX_ERROR_OUTPUT)
    const script = backgroundScript(this.#commandScript(command, args))
    const code = await this.#execute(script, (text) => errors.append(text))
    this.#lifecycle.signal.throwIfAborted()
    if (code !== 0) {
      throw new Error(errors.text().trim() || `'${command}' was not started: exit code ${code}`)
    }
  }

  /** The container has its environment already: only the variables that the function has added or changed are set. */
  #commandScript(command: string, args: readonly string[]): PodCommandScript {
    const { env, cwd } = this.#options
    const added = Object.entries(env).filter(([name, value]) => this.#containerEnv[name] !== value)
    return { id: this.#spec.id, command, args, cwd, env: Object.fromEntries(added) }
  }

  /** Resolves with the exit code when all output was passed on. */
  async #execute(script: string, onText: OutputListener): Promise<number> {
    const { signal } = this.#lifecycle
    // A startup function that ignores its signal must not start anything after the end.
    signal.throwIfAborted()
    const executed = await executeInPod(this.#container, script)
    forwardText(executed.stdout, (text) => onText(text, true))
    forwardText(executed.stderr, (text) => onText(text, false))
    signal.addEventListener('abort', executed.disconnect, { once: true })
    if (signal.aborted) executed.disconnect()
    try {
      const code = await executed.ended
      await Promise.all([whenReadToEnd(executed.stdout), whenReadToEnd(executed.stderr)])
      return code
    } finally {
      signal.removeEventListener('abort', executed.disconnect)
    }
  }

  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop() && grace > 0) void this.#remove(grace)
    this.#stopDeadline.shorten(grace)
    return this.gone
  }

  /** Asks the cluster to end the pod within `grace` ms. A later call may shorten the grace. */
  async #remove(grace: number): Promise<void> {
    await this.#creating
    // A create that was given up may have created the pod all the same.
    this.#uid ??= await findPodUid(this.#podRequest, REMOVE_RETRY_MS)
    if (this.#uid === undefined) return this.#finish()
    if (this.#isGone) return this.#finish()
    // With 0 the API server would forget the pod at once, although its processes may still run on the node.
    if (!(await this.#delete(Math.max(1, Math.ceil(grace / 1_000))))) return this.#finish()
    // The watch may be ahead of this response. Then nobody would clear a timer that is set now.
    if (this.#isGone) return this.#finish()
    this.#forceDeleteTimer?.clear()
    const forceDelete = (): void => void this.#delete(0).then(() => this.#finish())
    this.#forceDeleteTimer = after(grace + NODE_TIMEOUT, forceDelete)
  }

  /** Whether there was a pod to delete. */
  async #delete(seconds: number): Promise<boolean> {
    try {
      return await deletePod(this.#podRequest, this.#uid, { seconds, retryMs: REMOVE_RETRY_MS })
    } catch (error) {
      this.#lifecycle.writeOutput(`\nmanyhost: ${describeError(error)}\n`)
      return false
    }
  }

  /** The instance has ended by itself. */
  #end(exit: Exit): void {
    this.#settleExit(exit)
    void this.#remove(0)
  }

  /** Nothing of the pod is left. Its last output may still be on its way. */
  #finish(): void {
    this.#finishing ??= this.#finishNow()
  }

  async #finishNow(): Promise<void> {
    this.#isGone = true
    await resolveWithin(STOPPED_OUTPUT_TIMEOUT, this.#following ?? Promise.resolve())
    if (this.#lifecycle.state === 'stopping')
      this.#settleExit({ reason: 'stopped', detail: 'stopped' })
    this.#stopDeadline.cancel()
    this.#forceDeleteTimer?.clear()
    this.#options.events.unwatch(this.#name)
    this.#logs.disconnect()
    this.#lifecycle.markGone()
  }

  #settleExit(exit: Exit): void {
    this.#terminatingTimer?.clear()
    this.#lifecycle.markEnded(exit, (error) =>
      this.#connection?.pool.destroy(error).catch(() => undefined),
    )
  }
}
