/** Client on core 0, servers on core 1, where there are two cores and a `taskset`. */
import { spawnSync } from 'node:child_process'
import { availableParallelism, cpus } from 'node:os'

const CLIENT = '0'
const SERVERS = '1'

const pins = cpus().length >= 2 && spawnSync('taskset', ['--version']).status === 0

export const where = pins
  ? `client pinned to core ${CLIENT}, servers to core ${SERVERS}, of ${cpus().length}`
  : `NOT pinned (${availableParallelism()} core(s), taskset ${pins ? 'found' : 'not used'}): expect noise`

/** The command as it is to be run for a server. taskset replaces itself by it: the process id stays. */
export function onServerCore(command) {
  return pins ? ['taskset', '-c', SERVERS, ...command] : command
}

export function onClientCore(command) {
  return pins ? ['taskset', '-c', CLIENT, ...command] : command
}
