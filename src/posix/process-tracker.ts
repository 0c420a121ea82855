/**
 * Which processes belong to whom, where no control group holds them together. /proc is looked at while anything runs, so
 * that a process is known before it cuts its ties: as a child of a known one, a member of a known process group or
 * session, by the marks in its environment, or by a pipe of ours. What a known process starts is known, too.
 *
 * What starts and cuts all of these ties between two looks is not found. Hence the first looks come soon after a start.
 */
import { afterUnref, now, sleep, type Timer, yieldTurn } from '../core/time.ts'
import {
  listProcesses,
  type ProcessEntry,
  readProcessEnvironment,
  readStandardFiles,
} from './proc.ts'

/** Pauses before the first looks after a start, in ms. */
const FIRST_SCAN_DELAYS = [5, 15, 60, 220]

/** And before all others. */
const SCAN_INTERVAL = 1_000

/** A look that took so long is followed by a pause of at least so many times that. */
const MIN_FIRST_PAUSE_FACTOR = 10
const MIN_PAUSE_FACTOR = 100

/** How long a kill goes on against what keeps starting itself anew, in ms. */
const KILL_LIMIT = 5_000

/** So many passes of a kill follow each other at once. */
const FAST_PASSES = 5

/** Kernel threads are children of this process. */
const KERNEL_PID = 2

/** Hears of the processes that have left their group, as a guard does. */
export interface ProcessWatcher {
  watchProcess(pid: number, startTime: string): void
  forgetProcess(pid: number, startTime: string): void
}

/** What one instance, or one launcher of tasks, started. */
export class TrackedProcesses {
  /** `NAME=value` in an environment; any of them is enough. */
  readonly marks: readonly string[]
  /** Its pipes, as /proc names them. */
  readonly pipes = new Set<string>()
  /** Known processes that run, by pid. */
  members = new Map<number, ProcessEntry>()
  /** Those leaders of process groups of ours that have not been reaped. */
  readonly leaders = new Set<number>()
  /** Numbers of its process groups and sessions. */
  readonly groups = new Set<number>()
  /** Members that the witness was told of. */
  readonly reported = new Map<number, ProcessEntry>()

  constructor(marks: readonly string[]) {
    this.marks = marks
  }
}

export class ProcessTracker {
  readonly #watcher: ProcessWatcher
  readonly #tracked = new Set<TrackedProcesses>()
  /** Processes that were found to be strangers: an environment is read once. */
  #strangers = new Set<string>()
  #timer: Timer | undefined
  #firstScanDelays: number[] = []
  #lastScanMs = 0

  constructor(witness: ProcessWatcher) {
    this.#watcher = witness
  }

  track(marks: readonly string[]): TrackedProcesses {
    const household = new TrackedProcesses(marks)
    this.#tracked.add(household)
    return household
  }

  /** To be called in the tick in which a leader of a process group was started. */
  addLeader(household: TrackedProcesses, pid: number): void {
    household.leaders.add(pid)
    household.groups.add(pid)
    const isSoon = this.#firstScanDelays.length === FIRST_SCAN_DELAYS.length - 1
    this.#firstScanDelays = [...FIRST_SCAN_DELAYS]
    if (!isSoon) this.#schedule()
    else this.#firstScanDelays.shift()
  }

  /** The leader was reaped: its pid may be given to another process. */
  removeLeader(household: TrackedProcesses, pid: number): void {
    household.leaders.delete(pid)
  }

  /** Kills all that is known of it, until nothing is found any more. Resolves with whether nothing is left. */
  async kill(household: TrackedProcesses): Promise<boolean> {
    const deadline = now() + KILL_LIMIT
    for (let pass = 0; ; pass++) {
      this.scan(true)
      if (household.members.size === 0) return true
      for (const pid of household.members.keys()) killProcess(pid)
      if (now() > deadline) return false
      await (pass < FAST_PASSES ? yieldTurn() : sleep(Math.min(2 ** (pass - FAST_PASSES), 50)))
    }
  }

  untrack(household: TrackedProcesses): void {
    this.#tracked.delete(household)
    household.members = new Map()
    this.#notifyWatcher(household)
    if (this.#tracked.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
    this.#strangers.clear()
  }

  /** Finds who has joined and who has gone. */
  scan(withPipes = false): void {
    const begun = now()
    const all = listProcesses()
    const owners = this.#findKnownOwners(all)
    this.#assignOwners(all, owners, withPipes)
    for (const household of this.#tracked) household.members = new Map()
    for (const one of all) owners.get(one.pid)?.members.set(one.pid, one)
    for (const household of this.#tracked) this.#notifyWatcher(household)
    this.#lastScanMs = now() - begun
  }

  /** Who owns what was known before and still runs. */
  #findKnownOwners(all: readonly ProcessEntry[]): Map<number, TrackedProcesses> {
    const owners = new Map<number, TrackedProcesses>()
    const inUse = new Set(all.flatMap(({ group, session }) => [group, session]))
    for (const household of this.#tracked) {
      const { members, leaders, groups } = household
      for (const id of groups) if (!inUse.has(id) && !leaders.has(id)) groups.delete(id)
      for (const one of all) {
        const isKnown = members.get(one.pid)?.startTime === one.startTime
        if (isKnown || leaders.has(one.pid)) owners.set(one.pid, household)
      }
    }
    return owners
  }

  /** Adds to the owners those of all others that belong to somebody. */
  #assignOwners(
    all: readonly ProcessEntry[],
    owners: Map<number, TrackedProcesses>,
    withPipes: boolean,
  ): void {
    const byNumber = new Map<number, TrackedProcesses>()
    for (const household of this.#tracked) {
      for (const id of household.groups) byNumber.set(id, household)
    }
    const join = (one: ProcessEntry, owner: TrackedProcesses): void => {
      owners.set(one.pid, owner)
      // Sessions of strangers are out of reach for what we start: each leader of ours has a session of its own.
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

  /** Null: a stranger, whose environment need not be read again. */
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
    // A process that is just being executed has none yet.
    return environment.length > 1 ? null : undefined
  }

  /** The witness hears of those alone that no signal to a group of ours reaches. */
  #notifyWatcher(household: TrackedProcesses): void {
    const { members, reported: told, leaders } = household
    for (const [pid, one] of told) {
      if (members.get(pid)?.startTime === one.startTime) continue
      told.delete(pid)
      this.#watcher.forgetProcess(pid, one.startTime)
    }
    for (const [pid, one] of members) {
      if (told.has(pid) || leaders.has(one.group)) continue
      told.set(pid, one)
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

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Just gone, or another user's.
  }
}
