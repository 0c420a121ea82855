/** Finds out why a container ended. */
import type { Exit } from '../../src/core/provider.ts'
import { exitCodeOfSignal, exitOfCode, outOfMemoryExit } from '../shared/exit.ts'

export interface ContainerEndFacts {
  /** Undefined if somebody else has removed the container. */
  readonly exitCode: number | undefined
  /** Whether the engine said so, by an event or in the state of the container. */
  readonly outOfMemory: boolean
  /** Whether somebody asked the engine to send a signal to the container. */
  readonly wasKilled: boolean
  /** Its memory limit in bytes. */
  readonly memory: number | undefined
}

const KILLED = exitCodeOfSignal('SIGKILL')

export function exitOfContainer({
  exitCode,
  outOfMemory,
  wasKilled,
  memory,
}: ContainerEndFacts): Exit {
  if (exitCode === undefined) {
    return { reason: 'lost', detail: 'removed by somebody else' }
  }
  if (outOfMemory) return outOfMemoryExit(exitCode, memory)
  // Podman does not say that a container was out of memory. If nobody asked the engine for a kill, it came from the kernel.
  if (exitCode === KILLED && memory !== undefined && !wasKilled) {
    const detail = `most likely out of memory: killed, but nobody asked the engine for it, limit ${memory} bytes`
    return { reason: 'out-of-memory', detail }
  }
  return exitOfCode(exitCode)
}
