/** One instance: its pod, what was started in it, and the connections to it, from create to delete. */
import type { V1Pod } from '@kubernetes/client-node'
import type { Pool } from 'undici'
import { describe } from '../../src/core/errors.ts'
import type { Exit, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { after, sleep, type Timer, within } from '../../src/core/time.ts'
import { Grace } from '../grace.ts'
import { ERROR_OUTPUT, Life, type OnText } from '../life.ts'
import { pump, Tail } from '../process/output.ts'
import type { Api } from './api.ts'
import { create, type Entry, find, remove } from './books.ts'
import type { Events } from './events.ts'
import { execute, over, type Target } from './exec.ts'
import { exitOf, hopeless, isRunning, leavingOf, unschedulable } from './exit.ts'
import { download, upload } from './files.ts'
import { background, foreground, type Spawn } from './idle.ts'
import { Logs } from './logs.ts'
import { CONTAINER } from './names.ts'
import { type Reach, reachPod } from './reach.ts'

/** How long the end of the output is waited for after the end of the container, in ms. */
const LAST_WORDS = 1_000
/** How long it is waited for where nobody waits for the end itself: so much may a busy machine be late, in ms. */
const LAST_OUTPUT = 5_000
/** How long a deletion is tried while nobody can reach the API server, in ms; the next session sweeps what is left. */
const REMOVE_PATIENCE = 120_000
/** How long a node is given to say that a pod has ended whose grace is over, in ms; then it is deleted unseen. */
const NODE_PATIENCE = 20_000

export interface Surroundings {
  readonly api: Api
  readonly namespace: string
  readonly events: Events
  readonly manifest: V1Pod
  readonly env: Record<string, string>
  readonly cwd: string | undefined
  readonly listenOn: { readonly host: string; readonly port: number }
  readonly reach: 'pod-ip' | 'forward'
}

export class Instance implements Running {
  readonly leaving: Promise<string>
  readonly #life: Life
  readonly #spec: StartSpec
  readonly #on: Surroundings
  readonly #name: string
  readonly #given: Readonly<Record<string, string>>
  readonly #grace = new Grace(() => void this.#remove(0))
  readonly #logs: Logs
  readonly #running: Promise<V1Pod>
  #reach: Reach | undefined
  #uid: string | undefined
  /** The pod is made, or could not be; whoever deletes it has to wait for that. */
  #making: Promise<unknown> = Promise.resolve()
  #following: Promise<void> | undefined
  #finishing: Promise<void> | undefined
  #hasEnded = false
  #isGone = false
  #waitsFor: string | undefined
  #unseen: Timer | undefined
  #doom: Timer | undefined
  #setRunning: (pod: V1Pod) => void = () => {}
  #setLeaving: (reason: string) => void = () => {}

  constructor(spec: StartSpec, surroundings: Surroundings) {
    this.#spec = spec
    this.#life = new Life(spec)
    this.#on = surroundings
    this.#given = { ...surroundings.env }
    this.#name = surroundings.manifest.metadata?.name as string
    this.#logs = new Logs(this.#target, (text) => this.#life.write(text))
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
    this.#running = new Promise((resolve) => {
      this.#setRunning = resolve
    })
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  get dispatcher(): Pool {
    return this.#reach?.pool as Pool
  }

  get address(): string {
    return this.#reach?.address ?? ''
  }

  get #entry(): Entry {
    const { api, namespace, manifest } = this.#on
    return { api, namespace, manifest }
  }

  get #target(): Target {
    const { api, namespace } = this.#on
    return { api, namespace, pod: this.#name, container: CONTAINER }
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#reach ? this.#reach.accepts(signal) : Promise.reject(new Error('not started'))
  }

  /** When it rejects, `stop` deletes what there is. */
  begin(signal: AbortSignal, patience: number): Promise<void> {
    return this.#life.begin(signal, () => this.#start(signal, patience))
  }

  async #start(signal: AbortSignal, patience: number): Promise<void> {
    const { events, listenOn, reach, api, namespace } = this.#on
    const given = AbortSignal.any([signal, this.#life.signal])
    const isMade = (): boolean => this.#uid !== undefined
    events.watch(this.#name, {
      get isMade() {
        return isMade()
      },
      onPod: (pod) => this.#onPod(pod),
      onGone: () => this.#onGone(),
    })
    const making = this.#make(given, patience)
    this.#making = making.catch(() => undefined)
    // Beside each other: what happens to a pod before the watch begins is in the list that it begins with.
    await Promise.all([making, events.reach()])
    const pod = await this.#running
    this.#follow()
    const { port } = listenOn
    const ip = pod.status?.podIP ?? ''
    this.#reach = reachPod({ api, namespace, pod: this.#name, ip, port, reach, spec: this.#spec })
    await this.#life.prepare(this.#context(), listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (this.#spec.startup && command) await this.#spawn(command, args)
    given.throwIfAborted()
  }

  async #make(signal: AbortSignal, patience: number): Promise<void> {
    const made = await create(this.#entry, { signal, patience })
    this.#uid = made.metadata?.uid
    this.#onPod(made)
  }

  #onPod(pod: V1Pod): void {
    const { metadata, spec } = pod
    // Of the same name after ours was deleted: somebody else's.
    if (this.#uid !== undefined && metadata?.uid !== this.#uid) return
    const exit = exitOf(pod, CONTAINER, this.#spec.resources?.memory)
    if (exit) return void this.#onEnd(exit, pod)
    if (isRunning(pod, CONTAINER)) this.#setRunning(pod)
    else {
      const why = hopeless(pod, CONTAINER)
      if (why) return void this.#onEnd({ reason: 'lost', detail: why }, pod)
      const waitsFor = unschedulable(pod)
      if (waitsFor && waitsFor !== this.#waitsFor)
        this.#life.write(`manyhost: waits: ${waitsFor}\n`)
      this.#waitsFor = waitsFor
    }
    const leaving = leavingOf(pod)
    if (!leaving || this.#life.state !== 'up') return
    this.#setLeaving(leaving)
    if (!metadata?.deletionTimestamp) return
    // A pod may stay Terminating for as long as nobody hears of its node.
    const seconds = metadata.deletionGracePeriodSeconds ?? spec?.terminationGracePeriodSeconds ?? 30
    this.#doom ??= after(
      1_000 * seconds,
      () => void this.#onEnd({ reason: 'lost', detail: leaving }),
    )
  }

  #onGone(): void {
    this.#isGone = true
    void this.#onEnd({ reason: 'lost', detail: 'its pod was deleted by somebody else' })
    if (this.#life.state !== 'up') this.#finish()
  }

  /** The container has ended, or the cluster does not have it any more. */
  async #onEnd(exit: Exit, pod?: V1Pod): Promise<void> {
    if (this.#hasEnded) return
    this.#hasEnded = true
    // It may have ended before it was ever seen to run; what it wrote says why.
    if (pod?.status?.containerStatuses?.some(({ state }) => state?.terminated)) this.#follow()
    await within(
      this.#life.state === 'up' ? LAST_WORDS : LAST_OUTPUT,
      this.#following ?? Promise.resolve(),
    )
    if (this.#life.state === 'up') this.#end(exit)
    else if (this.#life.state === 'stopping') void this.#remove(0)
  }

  /** Passes its output on until it ends; the API server may go and come back meanwhile. */
  #follow(): void {
    const run = async (): Promise<void> => {
      for (;;) {
        const wasOver = this.#hasEnded
        const isRead = await this.#logs.follow().then(
          () => true,
          () => false,
        )
        // An output that ended after the container's end is whole.
        if ((isRead && wasOver) || this.#isGone || this.#life.state === 'ended') return
        await sleep(wasOver ? 50 : 200)
      }
    }
    this.#following ??= run()
  }

  #context(): StartupContext {
    const { env, cwd } = this.#on
    return {
      env,
      signal: this.#life.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => upload(this.#target, local, remote, cwd),
      download: (remote, local) => download(this.#target, remote, local, cwd),
      log: (text) => this.#life.write(`${text}\n`),
    }
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#life.run([command, ...args], async (onText) => {
      const code = await this.#execute(foreground(this.#begun(command, args)), onText)
      return `exit code ${code}`
    })
  }

  /** It is the pod that ends with it, and so tells of its end. */
  async #spawn(command: string, args: readonly string[]): Promise<void> {
    const said = new Tail(ERROR_OUTPUT)
    const script = background(this.#begun(command, args))
    const code = await this.#execute(script, (text) => said.add(text))
    this.#life.signal.throwIfAborted()
    if (code !== 0) throw new Error(said.text.trim() || `'${command}' was not begun: ${code}`)
  }

  /** The container has its environment already: what the function has added or changed comes on top. */
  #begun(command: string, args: readonly string[]): Spawn {
    const { env, cwd } = this.#on
    const added = Object.entries(env).filter(([name, value]) => this.#given[name] !== value)
    return { id: this.#spec.id, command, args, cwd, env: Object.fromEntries(added) }
  }

  /** Resolves with the exit code when all that it wrote was passed on. */
  async #execute(script: string, onText: OnText): Promise<number> {
    const { signal } = this.#life
    // A startup function that does not look at its signal must not start anything behind our back.
    signal.throwIfAborted()
    const executed = await execute(this.#target, script)
    pump(executed.stdout, (text) => onText(text, true))
    pump(executed.stderr, (text) => onText(text, false))
    signal.addEventListener('abort', executed.cut, { once: true })
    if (signal.aborted) executed.cut()
    try {
      const { code } = await executed.ended
      await Promise.all([over(executed.stdout), over(executed.stderr)])
      return code
    } finally {
      signal.removeEventListener('abort', executed.cut)
    }
  }

  stop(grace: number): Promise<void> {
    if (this.#life.stop() && grace > 0) void this.#remove(grace)
    this.#grace.shorten(grace)
    return this.gone
  }

  /** Asks the cluster for its end within `grace` ms; it may be asked again for a shorter one. */
  async #remove(grace: number): Promise<void> {
    await this.#making
    // A create whose answer nobody waited for may have made it all the same.
    this.#uid ??= await find(this.#entry, REMOVE_PATIENCE)
    if (this.#uid === undefined) return this.#finish()
    if (this.#isGone) return this.#finish()
    // 0 would take the pod out of the books at once, whatever still runs on its node.
    if (!(await this.#delete(Math.max(1, Math.ceil(grace / 1_000))))) return this.#finish()
    // The watch may be ahead of the answer; a timer that is set now would be nobody's to clear.
    if (this.#isGone) return this.#finish()
    this.#unseen?.clear()
    const unseen = (): void => void this.#delete(0).then(() => this.#finish())
    this.#unseen = after(grace + NODE_PATIENCE, unseen)
  }

  /** Whether there was anything to delete. */
  async #delete(seconds: number): Promise<boolean> {
    try {
      return await remove(this.#entry, this.#uid, { seconds, patience: REMOVE_PATIENCE })
    } catch (error) {
      this.#life.write(`\nmanyhost: ${describe(error)}\n`)
      return false
    }
  }

  /** It has ended by itself. */
  #end(exit: Exit): void {
    this.#settle(exit)
    void this.#remove(0)
  }

  /** Nothing of it is left, but what it wrote at its end may still be on its way. */
  #finish(): void {
    this.#finishing ??= this.#finishNow()
  }

  async #finishNow(): Promise<void> {
    this.#isGone = true
    await within(LAST_OUTPUT, this.#following ?? Promise.resolve())
    if (this.#life.state === 'stopping') this.#settle({ reason: 'stopped', detail: 'stopped' })
    this.#grace.cancel()
    this.#unseen?.clear()
    this.#on.events.forget(this.#name)
    this.#logs.cut()
    this.#life.leave()
  }

  #settle(exit: Exit): void {
    this.#doom?.clear()
    this.#life.end(exit, (error) => this.#reach?.pool.destroy(error).catch(() => undefined))
  }
}
