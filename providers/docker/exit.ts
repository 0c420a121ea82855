/** Why a container ended, from what the engine lets know. */
import type { Exit } from '../../src/core/provider.ts'
import { exitCodeOfSignal, exitOfCode } from '../shared/exit.ts'

export interface ContainerEndFacts {
  readonly exitCode: number | undefined
  /** The engine said so, by an event or in the container's state. */
  readonly outOfMemory: boolean
  /** Somebody asked the engine to send a signal. */
  readonly wasKilled: boolean
  /** Limit of its memory in bytes. */
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
  const limit = memory === undefined ? '' : `, limit ${memory} bytes`
  if (outOfMemory) {
    return { reason: 'out-of-memory', detail: `out of memory (exit code ${exitCode}${limit})` }
  }
  // Podman does not tell. The kernel's kill is the one that nobody asked the engine for.
  if (exitCode === KILLED && memory !== undefined && !wasKilled) {
    const detail = `most likely out of memory: killed, which nobody asked the engine for${limit}`
    return { reason: 'out-of-memory', detail }
  }
  return exitOfCode(exitCode)
}
