/**
 * Finds out which processes belong to which instance, where no control group holds them together. While anything runs,
 * /proc is scanned again and again, so that a process is known before it cuts its ties. A process is known:
 * 1. as the leader of a process group that we started;
 * 2. by a mark in its environment, or by a pipe of ours;
 * 3. as a child of a known process, or as a member of a known process group or session.
 *
 * A process that starts and cuts all of these ties between two scans is not found, so the first scans follow soon after a
 * start.
 */
import { exponentialDelay } from '../core/backoff.ts'
import { afterUnref, now, sleep, type Timer, yieldTurn } from '../core/time.ts'
import {
  killProcess,
  listProcesses,
  type ProcessEntry,
  readProcessEnvironment,
  readStandardFiles,
} from './proc.ts'

/** Pauses before the first scans after a start, in ms. */
const FIRST_SCAN_DELAYS = [5, 15, 60, 220]

/** The pause before each later scan, in ms. */
const SCAN_INTERVAL = 1_000

/** A pause is at least this many times as long as the last scan: scans must not take the whole processor. */
const MIN_FIRST_PAUSE_FACTOR = 10
const MIN_PAUSE_FACTOR = 100

/** How long `kill` goes on against processes that keep starting new ones, in ms. */
const KILL_TIMEOUT = 5_000

/** The first passes of a kill follow each other without a pause. */
const FAST_PASSES = 5

/** The pauses between the passes after these, in ms. */
const PASS_PAUSE = { min: 1, max: 50 }

/** Kernel threads are children of this process. */
const KERNEL_PID = 2

/** Is told of the processes that have left their group. A guard is one. */
export interface ProcessWatcher {
  watchProcess(pid: number, startTime: string): void
  forgetProcess(pid: number, startTime: string): void
}

/** The processes that one instance, or one launcher of tasks, started. */
export class TrackedProcesses {
  /** `NAME=value` each; a process with any of them in its environment is a member. */
  readonly marks: readonly string[]
  /** The pipes for the outputs of the members, by their names in /proc. */
  readonly pipes = new Set<string>()
  /** Known processes that run, by pid. */
  members = new Map<number, ProcessEntry>()
  /** Leaders of our process groups that have not been reaped. */
  readonly leaders = new Set<number>()
  /** Numbers of the process groups and sessions of the members. */
  readonly groups = new Set<number>()
  /** Members that the watcher knows. */
  readonly reported = new Map<number, ProcessEntry>()

  constructor(marks: readonly string[]) {
    this.marks = marks
  }
}

export class ProcessTracker {
  readonly #watcher: ProcessWatcher
  readonly #tracked = new Set<TrackedProcesses>()
  /** Processes that belong to nobody here, so that the environment of each is read only once. */
  #strangers = new Set<string>()
  #timer: Timer | undefined
  #firstScanDelays: number[] = []
  #lastScanMs = 0

  constructor(watcher: ProcessWatcher) {
    this.#watcher = watcher
  }

  track(marks: readonly string[]): TrackedProcesses {
    const tracked = new TrackedProcesses(marks)
    this.#tracked.add(tracked)
    return tracked
  }

  /** Call this in the tick in which the leader of a process group was started. */
  addLeader(tracked: TrackedProcesses, pid: number): void {
    tracked.leaders.add(pid)
    tracked.groups.add(pid)
    const isSoon = this.#firstScanDelays.length === FIRST_SCAN_DELAYS.length - 1
    this.#firstScanDelays = [...FIRST_SCAN_DELAYS]
    if (!isSoon) this.#schedule()
    else this.#firstScanDelays.shift()
  }

  /** Call this when the leader was reaped: its pid may then be given to another process. */
  removeLeader(tracked: TrackedProcesses, pid: number): void {
    tracked.leaders.delete(pid)
  }

  /** Kills the known members until a scan finds none. Resolves with whether none is left. */
  async kill(tracked: TrackedProcesses): Promise<boolean> {
    const deadline = now() + KILL_TIMEOUT
    for (let pass = 0; ; pass++) {
      this.scan(true)
      if (tracked.members.size === 0) return true
      for (const pid of tracked.members.keys()) killProcess(pid)
      if (now() > deadline) return false
      if (pass < FAST_PASSES) await yieldTurn()
      else await sleep(exponentialDelay(pass - FAST_PASSES, PASS_PAUSE))
    }
  }

  untrack(tracked: TrackedProcesses): void {
    this.#tracked.delete(tracked)
    tracked.members = new Map()
    this.#notifyWatcher(tracked)
    if (this.#tracked.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
    this.#strangers.clear()
  }

  /** Finds the members that have joined, and those that have ended. */
  scan(withPipes = false): void {
    const begun = now()
    const all = listProcesses()
    const owners = this.#findKnownOwners(all)
    this.#assignOwners(all, owners, withPipes)
    for (const tracked of this.#tracked) tracked.members = new Map()
    for (const one of all) owners.get(one.pid)?.members.set(one.pid, one)
    for (const tracked of this.#tracked) this.#notifyWatcher(tracked)
    this.#lastScanMs = now() - begun
  }

  /** The owners of the processes that were known before and still run. */
  #findKnownOwners(all: readonly ProcessEntry[]): Map<number, TrackedProcesses> {
    const owners = new Map<number, TrackedProcesses>()
    const inUse = new Set(all.flatMap(({ group, session }) => [group, session]))
    for (const tracked of this.#tracked) {
      const { members, leaders, groups } = tracked
      for (const id of groups) if (!inUse.has(id) && !leaders.has(id)) groups.delete(id)
      for (const one of all) {
        const isKnown = members.get(one.pid)?.startTime === one.startTime
        if (isKnown || leaders.has(one.pid)) owners.set(one.pid, tracked)
      }
    }
    return owners
  }

  /** Adds the owners of all other processes that belong to somebody. */
  #assignOwners(
    all: readonly ProcessEntry[],
    owners: Map<number, TrackedProcesses>,
    withPipes: boolean,
  ): void {
    const byNumber = new Map<number, TrackedProcesses>()
    for (const tracked of this.#tracked) {
      for (const id of tracked.groups) byNumber.set(id, tracked)
    }
    const join = (one: ProcessEntry, owner: TrackedProcesses): void => {
      owners.set(one.pid, owner)
      // No foreign session can get in here: each leader that we start has a session of its own.
      for (const id of [one.group, one.session]) {
        if (id <= 1) continue
        owner.groups.add(id)
        byNumber.set(id, owner)
      }
    }
    for (const one of all) {
      const owner = owners.get(one.pid)
      if (owner) join(one, owner)
    }
    let rest = all.filter((one) => !owners.has(one.pid) && one.pid !== process.pid)
    const strangers = new Set<string>()
    for (const one of rest) {
      const name = `${one.pid}:${one.startTime}`
      const owner = this.#findMarkedOwner(one, this.#strangers.has(name), withPipes)
      if (owner) join(one, owner)
      else if (owner === null) strangers.add(name)
    }
    this.#strangers = strangers
    for (let count = -1; count !== owners.size; ) {
      count = owners.size
      rest = rest.filter((one) => !owners.has(one.pid))
      for (const one of rest) {
        const owner = owners.get(one.parent) ?? byNumber.get(one.group) ?? byNumber.get(one.session)
        if (owner) join(one, owner)
      }
    }
  }

  /** Null for a stranger, whose environment need not be read again; undefined where nothing is known yet. */
  #findMarkedOwner(
    { pid, parent }: ProcessEntry,
    isStranger: boolean,
    withPipes: boolean,
  ): TrackedProcesses | null | undefined {
    if (parent === KERNEL_PID || parent === 0) return null
    if (withPipes) {
      const files = readStandardFiles(pid)
      for (const one of this.#tracked) if (files.some((file) => one.pipes.has(file))) return one
    }
    if (isStranger) return null
    const environment = readProcessEnvironment(pid)
    for (const one of this.#tracked) {
      if (one.marks.some((mark) => environment.includes(mark))) return one
    }
    // A process that is just being executed has no environment yet.
    return environment.length > 1 ? null : undefined
  }

  /** The watcher is told of those members alone that no signal to one of our groups reaches. */
  #notifyWatcher(tracked: TrackedProcesses): void {
    const { members, reported, leaders } = tracked
    for (const [pid, one] of reported) {
      if (members.get(pid)?.startTime === one.startTime) continue
      reported.delete(pid)
      this.#watcher.forgetProcess(pid, one.startTime)
    }
    for (const [pid, one] of members) {
      if (reported.has(pid) || leaders.has(one.group)) continue
      reported.set(pid, one)
      this.#watcher.watchProcess(pid, one.startTime)
    }
  }

  #schedule(): void {
    this.#timer?.clear()
    const first = this.#firstScanDelays.shift()
    const pause =
      first === undefined
        ? Math.max(SCAN_INTERVAL, MIN_PAUSE_FACTOR * this.#lastScanMs)
        : Math.max(first, MIN_FIRST_PAUSE_FACTOR * this.#lastScanMs)
    this.#timer = afterUnref(pause, () => {
      this.scan()
      this.#schedule()
    })
  }
}
