/**
 * Control groups of Linux. A process cannot leave its control group, and neither can a process that it starts, whatever
 * they do with sessions, process groups, parents and their environment. Our control groups are folders below the group of
 * our own process. They have no controller: they limit nothing, they only say which processes belong together.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { exponentialDelay } from '../core/backoff.ts'
import { now, sleep } from '../core/time.ts'
import { isDead, processIdentity } from './identity.ts'
import { killProcess } from './proc.ts'

/** How long a killed group may still have processes, in ms: one may be in a system call that cannot be interrupted. */
const KILL_TIMEOUT = 5_000

/** The first passes over a group follow each other without a pause. */
const MAX_FAST_PASSES = 100

/** The pauses between the passes after these, in ms. */
const PASS_PAUSE = { min: 1, max: 50 }

/** Number of tries to remove a group. A process that has just died still holds its group for a moment. */
const MAX_REMOVAL_PASSES = MAX_FAST_PASSES + 10

/** The hierarchies of version 1 that can be used. None of their limits is touched. */
const CGROUP1_HIERARCHIES = ['pids', 'freezer', 'name=systemd']

const PREFIX = 'manyhost-'

let groupCount = 0

/** The folders of the groups of our own process, best first. Groups of ours can be created in them. */
export function ownCgroupFolders(version: 1 | 2): string[] {
  const own = readOrEmpty('/proc/self/cgroup').split('\n')
  return readOrEmpty('/proc/self/mountinfo')
    .split('\n')
    .flatMap((line) => {
      const [mount = '', fs = ''] = line.split(' - ')
      const [, , , root = '', point = ''] = mount.split(' ').map(unescapeMount)
      const [type, , options = ''] = fs.split(' ')
      if (type !== (version === 2 ? 'cgroup2' : 'cgroup')) return []
      const kinds =
        version === 2 ? [''] : options.split(',').filter((o) => CGROUP1_HIERARCHIES.includes(o))
      return kinds.flatMap((kind) => {
        const found = own.find((one) => one.split(':')[1]?.split(',').includes(kind))
        const path = found?.split(':').slice(2).join(':')
        if (path === undefined || !path.startsWith(root === '/' ? '/' : root)) return []
        return [`${point}${path.slice(root === '/' ? 0 : root.length)}`.replace(/\/+$/, '')]
      })
    })
}

/** In mountinfo a space, and other special characters, are written as octal numbers. */
function unescapeMount(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, code) =>
    String.fromCharCode(Number.parseInt(code, 8)),
  )
}

export class Cgroup {
  readonly path: string
  readonly #children = new Set<Cgroup>()

  constructor(path: string) {
    this.path = path
    mkdirSync(path)
  }

  /**
   * A group whose name says which process owns it, so that a later process can remove the groups of a killed one.
   * @throws the error of the system where no group may be created
   */
  static create(parent: string): Cgroup {
    return new Cgroup(`${parent}/${PREFIX}${processIdentity()}:${++groupCount}`)
  }

  /** @throws the error of the system, for example when its limit of groups is reached */
  addChild(): Cgroup {
    const child = new Cgroup(`${this.path}/${++groupCount}`)
    this.#children.add(child)
    return child
  }

  /** A process enters the group by writing its pid, or 0, to this file. */
  get procsFile(): string {
    return `${this.path}/cgroup.procs`
  }

  /** @throws the error of the system, for example when the process has ended */
  enter(pid: number): void {
    writeFileSync(this.procsFile, String(pid))
  }

  /** All processes of the group and of the groups below it. */
  get pids(): number[] {
    return pidsBelow(this.path)
  }

  /** Kills all processes of the group and of the groups below it. Resolves with whether none is left. */
  async kill(): Promise<boolean> {
    const deadline = now() + KILL_TIMEOUT
    for (let pass = 0; ; pass++) {
      if (!killBelow(this.path)) return true
      if (now() > deadline) return false
      await pauseBetweenPasses(pass)
    }
  }

  /** Kills all processes of the group, and removes it. Resolves with whether nothing is left. */
  async remove(): Promise<boolean> {
    if (!(await this.kill())) return false
    for (let pass = 0; pass < MAX_REMOVAL_PASSES; pass++) {
      if (removeTree(this.path)) return true
      await pauseBetweenPasses(pass)
    }
    return false
  }
}

/** Kills and removes the groups whose owner is dead. They exist where the owner's guard was killed as well. */
export async function removeAbandonedCgroups(parent: string): Promise<void> {
  for (const name of foldersOf(parent)) {
    const identity = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : ''
    if (!isDead(identity)) continue
    const path = `${parent}/${name}`
    for (let pass = 0; pass < MAX_REMOVAL_PASSES && killBelow(path); pass++)
      await pauseBetweenPasses(pass)
    removeTree(path)
  }
}

/** A killed process mostly ends in less than the 1 ms of the shortest timer, so the first pauses are a read of a file. */
async function pauseBetweenPasses(pass: number): Promise<void> {
  if (pass < MAX_FAST_PASSES) await stat('/proc/self').catch(() => {})
  else await sleep(exponentialDelay(pass - MAX_FAST_PASSES, PASS_PAUSE))
}

/** Answers whether there was any process. */
function killBelow(path: string): boolean {
  const pids = pidsBelow(path)
  // With version 2 the kernel kills all of them at once, and also processes that are being forked meanwhile.
  if (pids.length > 0 && !tryWrite(`${path}/cgroup.kill`, '1')) {
    for (const pid of pids) killProcess(pid)
  }
  return pids.length > 0
}

function pidsBelow(path: string): number[] {
  const own = readOrEmpty(`${path}/cgroup.procs`).split('\n').filter(Boolean).map(Number)
  return [...own, ...foldersOf(path).flatMap((name) => pidsBelow(`${path}/${name}`))]
}

/** Answers whether the group is gone. */
function removeTree(path: string): boolean {
  for (const name of foldersOf(path)) removeTree(`${path}/${name}`)
  try {
    rmdirSync(path)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

function foldersOf(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  } catch {
    return []
  }
}

/** Empty where the file cannot be read, for example because its group is being removed. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function tryWrite(path: string, text: string): boolean {
  try {
    // `r+` writes only to a file that exists: a group of version 1 has no `cgroup.kill`.
    writeFileSync(path, text, { flag: 'r+' })
    return true
  } catch {
    return false
  }
}
