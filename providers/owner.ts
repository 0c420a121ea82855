/** Whose something is that an engine keeps: by that a session knows what those have left that were killed. */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** What is carried: the session, and the program that it was a session of. */
export interface Belongs {
  readonly session: string | undefined
  readonly owner: string
}

/** Who asks. */
export interface Mine {
  readonly session: string
  /** The program's own name, where it has one. */
  readonly owner: string | undefined
}

/** Removals at a time. */
const LANES = 8

/** This process among all that there ever were: machine, pid, and when it began. */
export function ownOwner(): string {
  return `${machine()}:${process.pid}:${begunAt(process.pid) ?? ''}`
}

/** Whether nobody looks after it any more. What no session has made is nobody's to remove. */
export function isLeft({ session, owner }: Belongs, mine: Mine): boolean {
  if (session === undefined || session === mine.session) return false
  return (mine.owner !== undefined && owner === mine.owner) || isDead(owner)
}

/** Whether an owner is known to be dead. Of other machines nothing is known. */
export function isDead(owner: string): boolean {
  const [where, pid = '', begun] = owner.split(':')
  if (where !== machine() || !/^\d+$/.test(pid)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  // A number that was given to another process since; a zombie has nothing more to do with what it made.
  const now = begunAt(Number(pid))
  return begun !== '' && now !== begun
}

/** Removes all of them, a few at a time; rejects when one could not be removed, and the rest of its lane is left then. */
export async function removeAll<T>(
  left: readonly T[],
  remove: (one: T) => Promise<unknown>,
): Promise<void> {
  const waiting = [...left]
  const lane = async (): Promise<void> => {
    for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) await remove(one)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}

/** A pid is only one within its namespace, and until the next boot. */
function machine(): string {
  const parts = [
    hostname(),
    read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    read(() => readlinkSync('/proc/self/ns/pid')),
  ]
  return createHash('sha256').update(parts.join(' ')).digest('hex').slice(0, 16)
}

/** In ticks since the boot; nothing for a zombie, or where the system does not say. */
function begunAt(pid: number): string | undefined {
  const stat = read(() => readFileSync(`/proc/${pid}/stat`, 'latin1'))
  // The name of the command, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}

function read(action: () => string): string {
  try {
    return action()
  } catch {
    return ''
  }
}
