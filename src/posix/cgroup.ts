/**
 * Control groups of Linux: a process cannot leave its group, and neither can anything that it starts, whatever it does
 * with sessions, process groups, parents and its environment. Ours are folders below our own process's group, without
 * any controller: they limit nothing, they only say what belongs together.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { now, sleep } from '../core/time.ts'
import { isDead, ownIdentity } from './identity.ts'

/** How long a killed group may still be inhabited: a process in an uninterruptible call of the kernel, in ms. */
const KILL_LIMIT = 5_000

/** So many passes follow each other at once. */
const MAX_FAST_PASSES = 100

/** So often a group is tried to be removed: for a moment it is held by what has just died in it. */
const MAX_REMOVAL_PASSES = MAX_FAST_PASSES + 10

/** Hierarchies of version 1 that are of use: no limit of theirs is touched. */
const CGROUP1_HIERARCHIES = ['pids', 'freezer', 'name=systemd']

const PREFIX = 'manyhost-'

let groupCount = 0

/** The folders of our own process's groups, in which ours could be made, the best first. */
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

/** Spaces and the like are written as octal numbers there. */
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
   * A group that says whose it is, so that a later process can remove what a killed one left.
   * @throws what the system says where it may not be made
   */
  static create(parent: string): Cgroup {
    return new Cgroup(`${parent}/${PREFIX}${ownIdentity()}:${++groupCount}`)
  }

  /** @throws what the system says: its limit of groups is reached */
  addChild(): Cgroup {
    const child = new Cgroup(`${this.path}/${++groupCount}`)
    this.#children.add(child)
    return child
  }

  /** What a process writes its pid to, or 0, in order to enter. */
  get procsFile(): string {
    return `${this.path}/cgroup.procs`
  }

  /** @throws what the system says: the process is gone */
  enter(pid: number): void {
    writeFileSync(this.procsFile, String(pid))
  }

  /** All that run in it and below. */
  get pids(): number[] {
    return pidsBelow(this.path)
  }

  /** Kills all that is in it and below. Resolves with whether nothing is left. */
  async kill(): Promise<boolean> {
    const deadline = now() + KILL_LIMIT
    for (let pass = 0; ; pass++) {
      if (!killBelow(this.path)) return true
      if (now() > deadline) return false
      await pauseBetweenPasses(pass)
    }
  }

  /** Kills all that is in it, and removes it. Resolves with whether nothing is left. */
  async remove(): Promise<boolean> {
    if (!(await this.kill())) return false
    for (let pass = 0; pass < MAX_REMOVAL_PASSES; pass++) {
      if (removeTree(this.path)) return true
      await pauseBetweenPasses(pass)
    }
    return false
  }
}

/** Kills and removes the groups of processes that are dead: their guard was killed as well. */
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

/** A process mostly dies in less than a timer of 1 ms needs: a read by another thread gives way to it. */
async function pauseBetweenPasses(pass: number): Promise<void> {
  if (pass < MAX_FAST_PASSES) await stat('/proc/self').catch(() => {})
  else await sleep(Math.min(2 ** (pass - MAX_FAST_PASSES), 50))
}

/** Answers whether anybody was there. */
function killBelow(path: string): boolean {
  const pids = pidsBelow(path)
  // With version 2 the kernel kills all at once, and what is being forked meanwhile.
  if (pids.length > 0 && !tryWrite(`${path}/cgroup.kill`, '1')) {
    for (const pid of pids) sendKill(pid)
  }
  return pids.length > 0
}

function pidsBelow(path: string): number[] {
  const own = readOrEmpty(`${path}/cgroup.procs`).split('\n').filter(Boolean).map(Number)
  return [...own, ...foldersOf(path).flatMap((name) => pidsBelow(`${path}/${name}`))]
}

/** Answers whether it is gone. */
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

/** Of a group in a thread that is being removed nothing can be read. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function tryWrite(path: string, text: string): boolean {
  try {
    // Only into what is there: a group of version 1 has no such file.
    writeFileSync(path, text, { flag: 'r+' })
    return true
  } catch {
    return false
  }
}

function sendKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Just gone.
  }
}
