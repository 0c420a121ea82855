/** A process among all that there ever were: its machine, its pid, and when it began. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { readLink, readProcess } from './proc.ts'

let machine: string | undefined

/** A pid is one only within its namespace, and until the next boot. */
export function machineId(): string {
  machine ??= createHash('sha256')
    .update([hostname(), bootId(), readLink('/proc/self/ns/pid')].join(' '))
    .digest('hex')
    .slice(0, 16)
  return machine
}

/** This process: `machine:pid:start time`. */
export function ownIdentity(): string {
  return `${machineId()}:${process.pid}:${readProcess(process.pid)?.startTime ?? ''}`
}

/** Whether the process of that identity is known to be dead. Of other machines nothing is known. */
export function isDead(identity: string): boolean {
  const [where, pid = '', begun] = identity.split(':')
  if (where !== machineId() || !/^\d+$/.test(pid)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  // A pid that was given to another process since; a zombie has nothing more to do with what it made.
  return begun !== '' && (readProcess(Number(pid))?.startTime ?? '') !== begun
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  } catch {
    return ''
  }
}
