/**
 * Which processes belong to whom, where no control group holds them together. /proc is looked at while anything runs, so
 * that a process is known before it cuts its ties: as a child of a known one, a member of a known process group or
 * session, by the marks in its environment, or by a pipe of ours. What a known process starts is known, too.
 *
 * What starts and cuts all of these ties between two looks is not found. Hence the first looks come soon after a start.
 */
import { afterIdly, now, sleep, type Timer, turn } from '../core/time.ts'
import { environmentOf, listProcesses, type ProcessEntry, standardFilesOf } from './proc.ts'

/** Pauses before the first looks after a start, in ms. */
const FIRST_LOOKS = [5, 15, 60, 220]

/** And before all others. */
const PERIOD = 1_000

/** A look that took so long is followed by a pause of at least so many times that. */
const FIRST_PAUSE = 10
const PAUSE = 100

/** How long a kill goes on against what keeps starting itself anew, in ms. */
const KILL_LIMIT = 5_000

/** So many passes of a kill follow each other at once. */
const FAST_PASSES = 5

/** Kernel threads are children of this process. */
const KERNEL = 2

/** Hears of the processes that have left their group, as a guard does. */
export interface Witness {
  watchProcess(pid: number, startTime: string): void
  forgetProcess(pid: number, startTime: string): void
}

/** What one instance, or one launcher of tasks, started. */
export class Household {
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
  readonly told = new Map<number, ProcessEntry>()

  constructor(marks: readonly string[]) {
    this.marks = marks
  }
}

export class Census {
  readonly #witness: Witness
  readonly #households = new Set<Household>()
  /** Processes that were found to be strangers: an environment is read once. */
  #strangers = new Set<string>()
  #timer: Timer | undefined
  #firstLooks: number[] = []
  #lastCost = 0

  constructor(witness: Witness) {
    this.#witness = witness
  }

  open(marks: readonly string[]): Household {
    const household = new Household(marks)
    this.#households.add(household)
    return household
  }

  /** To be called in the tick in which a leader of a process group was started. */
  started(household: Household, pid: number): void {
    household.leaders.add(pid)
    household.groups.add(pid)
    const isSoon = this.#firstLooks.length === FIRST_LOOKS.length - 1
    this.#firstLooks = [...FIRST_LOOKS]
    if (!isSoon) this.#schedule()
    else this.#firstLooks.shift()
  }

  /** The leader was reaped: its pid may be given to another process. */
  ended(household: Household, pid: number): void {
    household.leaders.delete(pid)
  }

  /** Kills all that is known of it, until nothing is found any more. Resolves with whether nothing is left. */
  async kill(household: Household): Promise<boolean> {
    const deadline = now() + KILL_LIMIT
    for (let pass = 0; ; pass++) {
      this.look(true)
      if (household.members.size === 0) return true
      for (const pid of household.members.keys()) kill(pid)
      if (now() > deadline) return false
      await (pass < FAST_PASSES ? turn() : sleep(Math.min(2 ** (pass - FAST_PASSES), 50)))
    }
  }

  forget(household: Household): void {
    this.#households.delete(household)
    household.members = new Map()
    this.#tell(household)
    if (this.#households.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
    this.#strangers.clear()
  }

  /** Finds who has joined and who has gone. */
  look(withPipes = false): void {
    const begun = now()
    const all = listProcesses()
    const owners = this.#known(all)
    this.#adopt(all, owners, withPipes)
    for (const household of this.#households) household.members = new Map()
    for (const one of all) owners.get(one.pid)?.members.set(one.pid, one)
    for (const household of this.#households) this.#tell(household)
    this.#lastCost = now() - begun
  }

  /** Who owns what was known before and still runs. */
  #known(all: readonly ProcessEntry[]): Map<number, Household> {
    const owners = new Map<number, Household>()
    const inUse = new Set(all.flatMap(({ group, session }) => [group, session]))
    for (const household of this.#households) {
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
  #adopt(all: readonly ProcessEntry[], owners: Map<number, Household>, withPipes: boolean): void {
    const byNumber = new Map<number, Household>()
    for (const household of this.#households) {
      for (const id of household.groups) byNumber.set(id, household)
    }
    const join = (one: ProcessEntry, owner: Household): void => {
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
      const owner = this.#markedBy(one, this.#strangers.has(name), withPipes)
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
  #markedBy(
    { pid, parent }: ProcessEntry,
    isStranger: boolean,
    withPipes: boolean,
  ): Household | null | undefined {
    if (parent === KERNEL || parent === 0) return null
    if (withPipes) {
      const files = standardFilesOf(pid)
      for (const one of this.#households) if (files.some((file) => one.pipes.has(file))) return one
    }
    if (isStranger) return null
    const environment = environmentOf(pid)
    for (const one of this.#households) {
      if (one.marks.some((mark) => environment.includes(mark))) return one
    }
    // A process that is just being executed has none yet.
    return environment.length > 1 ? null : undefined
  }

  /** The witness hears of those alone that no signal to a group of ours reaches. */
  #tell(household: Household): void {
    const { members, told, leaders } = household
    for (const [pid, one] of told) {
      if (members.get(pid)?.startTime === one.startTime) continue
      told.delete(pid)
      this.#witness.forgetProcess(pid, one.startTime)
    }
    for (const [pid, one] of members) {
      if (told.has(pid) || leaders.has(one.group)) continue
      told.set(pid, one)
      this.#witness.watchProcess(pid, one.startTime)
    }
  }

  #schedule(): void {
    this.#timer?.clear()
    const first = this.#firstLooks.shift()
    const pause =
      first === undefined
        ? Math.max(PERIOD, PAUSE * this.#lastCost)
        : Math.max(first, FIRST_PAUSE * this.#lastCost)
    this.#timer = afterIdly(pause, () => {
      this.look()
      this.#schedule()
    })
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Just gone, or another user's.
  }
}
