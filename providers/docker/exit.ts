/** Why a container ended, from what the engine lets know. */
import { constants } from 'node:os'
import type { Exit } from '../../src/provider.ts'

export interface Evidence {
  readonly exitCode: number | undefined
  /** The engine said so, by an event or in the container's state. */
  readonly outOfMemory: boolean
  /** Somebody asked the engine to send a signal. */
  readonly wasKilled: boolean
  /** Limit of its memory in bytes. */
  readonly memory: number | undefined
}

const SIGKILL = 137

export function exitOf({ exitCode, outOfMemory, wasKilled, memory }: Evidence): Exit {
  if (exitCode === undefined) {
    return { reason: 'lost', detail: 'removed by somebody else' }
  }
  const limit = memory === undefined ? '' : `, limit ${memory} bytes`
  if (outOfMemory) {
    return { reason: 'out-of-memory', detail: `out of memory (exit code ${exitCode}${limit})` }
  }
  // Podman does not tell. The kernel's kill is the one that nobody asked the engine for.
  if (exitCode === SIGKILL && memory !== undefined && !wasKilled) {
    const detail = `most likely out of memory: killed, which nobody asked the engine for${limit}`
    return { reason: 'out-of-memory', detail }
  }
  const name = signalOf(exitCode)
  if (name) return { reason: 'killed', detail: `killed by ${name}` }
  return { reason: 'exited', detail: `exit code ${exitCode}` }
}

function signalOf(exitCode: number): string | undefined {
  if (exitCode <= 128) return undefined
  const found = Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)
  return found?.[0]
}
