/**
 * The guard ends our children after this process was killed, which no handler in this process can do. The guard is a
 * shell in a session of its own. It reads from a pipe whose other end only this process holds, so it reads the end of
 * that pipe however this process ends. The guard also makes pipes for us, which Node cannot (pipes.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { exponentialDelay } from '../core/backoff.ts'
import { ManyhostError } from '../core/errors.ts'
import { afterUnref, now, type Timer } from '../core/time.ts'
import { GUARD_SCRIPT } from './guard-script.ts'

export interface GuardOptions {
  /** `NAME=value`, or the beginning of it, in the environment of all processes that we start, and of no other process. */
  readonly mark: string
  /** The folder that the guard removes when this process has ended. */
  readonly folder: string
}

/** A guard that lived at least this long, in ms, starts the count of consecutive exits anew. */
const MIN_STEADY_LIFETIME = 10_000

/** This many guards in a row are replaced at once. Later ones are replaced after a delay: somebody ends them on purpose. */
const MAX_IMMEDIATE_RESTARTS = 5

/** The delay before a guard is replaced, in ms. */
const RESTART_DELAY = { min: 10, max: 500 }

export class Guard {
  readonly #options: GuardOptions
  /** What the guard watches, for its successor: process groups, single processes, the control group. */
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
   * Call this before the first child is started: no process may run without a guard.
   * @throws ManyhostError MANYHOST_START_FAILED
   */
  ensure(): void {
    if (this.#child) return
    this.#timer?.clear()
    this.#timer = undefined
    const { mark, folder } = this.#options
    const child = spawn('/bin/sh', ['-c', GUARD_SCRIPT, 'manyhost-guard', mark, folder], {
      // `detached`, because Ctrl-C goes to our process group. Without environment, because the guard would otherwise find
      // itself by the mark.
      detached: true,
      env: {},
      cwd: '/',
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    child.on('error', () => this.#onExit(child))
    if (child.pid === undefined) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        'cannot start /bin/sh, which guards the processes of instances; is the machine out of processes?',
      )
    }
    this.#child = child
    this.#startedAt = now()
    child.once('exit', () => this.#onExit(child))
    child.stdin?.on('error', () => {})
    child.stdout?.on('error', () => {})
    // The lines of the guard are short and rare, so each chunk is one whole line.
    child.stdout?.on('data', (chunk: Buffer) => {
      if (this.#child === child) this.#onLine(chunk.toString('latin1').trim())
    })
    child.unref()
    ;(child.stdin as Socket).unref()
    ;(child.stdout as Socket).unref()
    for (const entry of this.#watched) this.send(`+${entry}`)
    this.#onStart()
  }

  /** Kills the process group when this process has ended. Call it in the tick in which the group was made. */
  watchGroup(group: number): void {
    this.#watchEntry(`-${group}`)
  }

  forgetGroup(group: number): void {
    this.#forgetEntry(`-${group}`)
  }

  /** Kills a process that has left its group, when this process has ended. */
  watchProcess(pid: number, startTime: string): void {
    this.#watchEntry(`${pid}:${startTime}`)
  }

  forgetProcess(pid: number, startTime: string): void {
    this.#forgetEntry(`${pid}:${startTime}`)
  }

  /** Kills the processes of a control group, and removes it, when this process has ended. */
  watchCgroup(path: string): void {
    this.#watchEntry(path)
  }

  /** @param onLine is called for each line that the guard prints; @param onStart for each new guard */
  setListeners(onLine: (line: string) => void, onStart: () => void): void {
    this.#onLine = onLine
    this.#onStart = onStart
  }

  send(line: string): void {
    this.#child?.stdin?.write(`${line}\n`)
  }

  /** Ends the guard as the end of this process would. When this resolves, all children that were left are gone. */
  async close(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    // If somebody has ended the guard, a new guard does its work.
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

  #watchEntry(entry: string): void {
    if (this.#watched.has(entry)) return
    this.#watched.add(entry)
    this.send(`+${entry}`)
  }

  #forgetEntry(entry: string): void {
    if (this.#watched.delete(entry)) this.send(`-${entry}`)
  }

  /** Somebody has ended the guard: a new guard takes over all that it watched, however often that happens. */
  #onExit(child: ChildProcess): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#consecutiveExits =
      now() - this.#startedAt > MIN_STEADY_LIFETIME ? 1 : this.#consecutiveExits + 1
    if (this.#watched.size === 0) return
    const excess = this.#consecutiveExits - MAX_IMMEDIATE_RESTARTS
    if (excess < 0) return this.#replace()
    this.#timer = afterUnref(exponentialDelay(excess, RESTART_DELAY), () => this.#replace())
  }

  #replace(): void {
    try {
      this.ensure()
    } catch {
      // The machine is out of processes.
      this.#timer = afterUnref(RESTART_DELAY.max, () => this.#replace())
    }
  }
}
