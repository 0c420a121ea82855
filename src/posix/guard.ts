/**
 * What no handler in this process can do: end the children after this process was killed. A shell, in a session of
 * its own, reads from a pipe whose other end only we hold. However we die, it then reads the end of the pipe.
 * It also makes pipes for us, which Node cannot (pipes.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { ManyhostError } from '../core/errors.ts'
import { afterIdly, now, type Timer } from '../core/time.ts'
import { GUARD_SCRIPT } from './guard-script.ts'

export interface GuardOptions {
  /** `NAME=value`, or the beginning of it, in the environment of all that we start and of nothing else. */
  readonly mark: string
  /** Removed when this process has ended. */
  readonly folder: string
}

/** How long a guard must have lived for its end to count as the first one, in ms. */
const STEADY = 10_000

/** The first of so many guards in a row are replaced at once, the others at a pace: somebody ends them on purpose. */
const AT_ONCE = 5

/** Longest wait before a guard is replaced, in ms. */
const LONGEST_WAIT = 500

export class Guard {
  readonly #options: GuardOptions
  /** What the guard was told, to tell its successor: groups, single processes, the control group. */
  readonly #facts = new Set<string>()
  #child: ChildProcess | undefined
  #startedAt = 0
  #lostInRow = 0
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
    child.on('error', () => this.#lost(child))
    if (child.pid === undefined) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        'the guard of the processes, /bin/sh, cannot be started',
      )
    }
    this.#child = child
    this.#startedAt = now()
    child.once('exit', () => this.#lost(child))
    child.stdin?.on('error', () => {})
    child.stdout?.on('error', () => {})
    // Its lines are short and rare: one line comes whole.
    child.stdout?.on('data', (chunk: Buffer) => {
      if (this.#child === child) this.#onLine(chunk.toString('latin1').trim())
    })
    child.unref()
    ;(child.stdin as Socket).unref()
    ;(child.stdout as Socket).unref()
    for (const fact of this.#facts) this.tell(`+${fact}`)
    this.#onStart()
  }

  /** A process group, the group of all: killed when this process has ended. To be called in the tick in which it was made. */
  watch(group: number): void {
    this.#add(`-${group}`)
  }

  forget(group: number): void {
    this.#drop(`-${group}`)
  }

  /** A process that has left its group. */
  watchProcess(pid: number, startTime: string): void {
    this.#add(`${pid}:${startTime}`)
  }

  forgetProcess(pid: number, startTime: string): void {
    this.#drop(`${pid}:${startTime}`)
  }

  /** A control group. It is removed, too. */
  watchCgroup(path: string): void {
    this.#add(path)
  }

  /** Who hears what the guard says, and of each new guard. */
  listen(onLine: (line: string) => void, onStart: () => void): void {
    this.#onLine = onLine
    this.#onStart = onStart
  }

  tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`)
  }

  /** Ends the guard as our death would: what is left of the children is gone when this resolves. */
  async close(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    // A guard that was ended leaves its work to the next one.
    if (!this.#child && this.#facts.size > 0) this.ensure()
    const child = this.#child
    if (!child) return
    this.#child = undefined
    this.#lostInRow = 0
    this.#facts.clear()
    const exited = once(child, 'exit')
    child.ref()
    child.stdin?.end()
    await exited.catch(() => {})
  }

  #add(fact: string): void {
    if (this.#facts.has(fact)) return
    this.#facts.add(fact)
    this.tell(`+${fact}`)
  }

  #drop(fact: string): void {
    if (this.#facts.delete(fact)) this.tell(`-${fact}`)
  }

  /** Somebody ended the guard: all that it knew goes to a new one, however often. */
  #lost(child: ChildProcess): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#lostInRow = now() - this.#startedAt > STEADY ? 1 : this.#lostInRow + 1
    if (this.#facts.size === 0) return
    const excess = this.#lostInRow - AT_ONCE
    if (excess < 0) return this.#replace()
    this.#timer = afterIdly(Math.min(10 * 2 ** excess, LONGEST_WAIT), () => this.#replace())
  }

  #replace(): void {
    try {
      this.ensure()
    } catch {
      // The machine is out of processes.
      this.#timer = afterIdly(LONGEST_WAIT, () => this.#replace())
    }
  }
}
