/** By what the engine is asked for containers of ours. */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

export const SESSION = 'manyhost.session'
export const INSTANCE = 'manyhost.instance'
export const SERVICE = 'manyhost.service'
export const OWNER = 'manyhost.owner'

/** This process among all that there ever were: machine, pid, and when it began. */
export function ownOwner(): string {
  return `${machine()}:${process.pid}:${begunAt(process.pid) ?? ''}`
}

/** Whether who owned a container is known to be dead. Of other machines nothing is known. */
export function isDead(owner: string): boolean {
  const [where, pid = '', begun] = owner.split(':')
  if (where !== machine() || !/^\d+$/.test(pid)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  // A number that was given to another process since; a zombie has nothing more to do with its containers.
  const now = begunAt(Number(pid))
  return begun !== '' && now !== begun
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
