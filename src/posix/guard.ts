/**
 * What no handler in this process can do: end the children after this process was killed. A shell, in a session of
 * its own, reads from a pipe whose other end only we hold. However we die, it then reads the end of the pipe.
 * It also makes pipes for us, which Node cannot (pipes.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { ManyhostError } from '../core/errors.ts'
import { afterUnref, now, type Timer } from '../core/time.ts'
import { GUARD_SCRIPT } from './guard-script.ts'

export interface GuardOptions {
  /** `NAME=value`, or the beginning of it, in the environment of all that we start and of nothing else. */
  readonly mark: string
  /** Removed when this process has ended. */
  readonly folder: string
}

/** How long a guard must have lived for its end to count as the first one, in ms. */
const MIN_STEADY_LIFETIME = 10_000

/** The first of so many guards in a row are replaced at once, the others at a pace: somebody ends them on purpose. */
const MAX_IMMEDIATE_RESTARTS = 5

/** Longest wait before a guard is replaced, in ms. */
const MAX_RESTART_DELAY = 500

export class Guard {
  readonly #options: GuardOptions
  /** What the guard was told, to tell its successor: groups, single processes, the control group. */
  readonly #watched = new Set<string>()
  #child: ChildProcess | undefined
  #startedAt = 0
  #consecutiveExits = 0
  #timer: Timer | undefined
  #onLine: (line: string) => void = () => {}
  #onStart: () => void = () => {}

  constructor(options: GuardOptions) {
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /**
   * To be called before the first child is started: nothing may run unguarded.
   * @throws ManyhostError MANYHOST_START_FAILED
   */
  ensure(): void {
    if (this.#child) return
    this.#timer?.clear()
    this.#timer = undefined
    const { mark, folder } = this.#options
    const child = spawn('/bin/sh', ['-c', GUARD_SCRIPT, 'manyhost-guard', mark, folder], {
      // `detached`: Ctrl-C goes to our process group. A clean environment: it would else find itself by the mark.
      detached: true,
      env: {},
      cwd: '/',
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    child.on('error', () => this.#onExit(child))
    if (child.pid === undefined) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        'the guard of the processes, /bin/sh, cannot be started',
      )
    }
    this.#child = child
    this.#startedAt = now()
    child.once('exit', () => this.#onExit(child))
    child.stdin?.on('error', () => {})
    child.stdout?.on('error', () => {})
    // Its lines are short and rare: one line comes whole.
    child.stdout?.on('data', (chunk: Buffer) => {
      if (this.#child === child) this.#onLine(chunk.toString('latin1').trim())
    })
    child.unref()
    ;(child.stdin as Socket).unref()
    ;(child.stdout as Socket).unref()
    for (const fact of this.#watched) this.send(`+${fact}`)
    this.#onStart()
  }

  /** A process group, the group of all: killed when this process has ended. To be called in the tick in which it was made. */
  watchGroup(group: number): void {
    this.#watchEntry(`-${group}`)
  }

  forgetGroup(group: number): void {
    this.#forgetEntry(`-${group}`)
  }

  /** A process that has left its group. */
  watchProcess(pid: number, startTime: string): void {
    this.#watchEntry(`${pid}:${startTime}`)
  }

  forgetProcess(pid: number, startTime: string): void {
    this.#forgetEntry(`${pid}:${startTime}`)
  }

  /** A control group. It is removed, too. */
  watchCgroup(path: string): void {
    this.#watchEntry(path)
  }

  /** Who hears what the guard says, and of each new guard. */
  setListeners(onLine: (line: string) => void, onStart: () => void): void {
    this.#onLine = onLine
    this.#onStart = onStart
  }

  send(line: string): void {
    this.#child?.stdin?.write(`${line}\n`)
  }

  /** Ends the guard as our death would: what is left of the children is gone when this resolves. */
  async close(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    // A guard that was ended leaves its work to the next one.
    if (!this.#child && this.#watched.size > 0) this.ensure()
    const child = this.#child
    if (!child) return
    this.#child = undefined
    this.#consecutiveExits = 0
    this.#watched.clear()
    const exited = once(child, 'exit')
    child.ref()
    child.stdin?.end()
    await exited.catch(() => {})
  }

  #watchEntry(fact: string): void {
    if (this.#watched.has(fact)) return
    this.#watched.add(fact)
    this.send(`+${fact}`)
  }

  #forgetEntry(fact: string): void {
    if (this.#watched.delete(fact)) this.send(`-${fact}`)
  }

  /** Somebody ended the guard: all that it knew goes to a new one, however often. */
  #onExit(child: ChildProcess): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#consecutiveExits =
      now() - this.#startedAt > MIN_STEADY_LIFETIME ? 1 : this.#consecutiveExits + 1
    if (this.#watched.size === 0) return
    const excess = this.#consecutiveExits - MAX_IMMEDIATE_RESTARTS
    if (excess < 0) return this.#replace()
    this.#timer = afterUnref(Math.min(10 * 2 ** excess, MAX_RESTART_DELAY), () => this.#replace())
  }

  #replace(): void {
    try {
      this.ensure()
    } catch {
      // The machine is out of processes.
      this.#timer = afterUnref(MAX_RESTART_DELAY, () => this.#replace())
    }
  }
}
