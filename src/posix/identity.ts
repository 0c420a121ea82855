/** The identity of a process among all processes that ever ran: its machine, its pid, and when it was started. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { readLink, readProcess } from './proc.ts'

let machine: string | undefined

/** Names the machine, its boot and its namespace of pids: a pid is valid only within these. */
export function machineId(): string {
  machine ??= createHash('sha256')
    .update([hostname(), bootId(), readLink('/proc/self/ns/pid')].join(' '))
    .digest('hex')
    .slice(0, 16)
  return machine
}

/** The identity of this process: `machine:pid:start time`. */
export function processIdentity(): string {
  return `${machineId()}:${process.pid}:${readProcess(process.pid)?.startTime ?? ''}`
}

/** Whether the process with that identity is known to be dead. Nothing is known about other machines. */
export function isDead(identity: string): boolean {
  const [where, pid = '', begun] = identity.split(':')
  if (where !== machineId() || !/^\d+$/.test(pid)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  // Another start time means that the pid was given to another process since. A zombie has no start time here: it can
  // do nothing any more for what it made.
  return begun !== '' && (readProcess(Number(pid))?.startTime ?? '') !== begun
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  } catch {
    return ''
  }
}
