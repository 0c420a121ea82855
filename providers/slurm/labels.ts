/** What stands in the comment of a job: whose it is, and the labels of its service. */
import { readFileSync } from 'node:fs'
import type { StartSpec } from '../../src/provider.ts'
import { isRecord } from '../far/options.ts'

/** Slurm keeps no longer one by default settings of its database, in characters. */
const LONGEST = 1_000

interface Owner {
  readonly host: string
  readonly pid: number
}

export class Labels {
  readonly #marker: string
  readonly #owner: Owner & { readonly since: string }

  constructor(marker: string, owner: Owner) {
    this.#marker = marker
    this.#owner = { ...owner, since: startedAt(owner.pid) ?? '' }
  }

  /** JSON: `{ manyhost: { id, session, host, pid, since }, labels }`; labels that do not fit are left out. */
  comment({ id, labels }: StartSpec): string {
    const manyhost = { id, session: this.#marker, ...this.#owner }
    const whole = JSON.stringify({ manyhost, labels })
    return whole.length <= LONGEST ? whole : JSON.stringify({ manyhost })
  }

  /** Whether its session was one of this machine, and has ended. `since` tells when a process began. */
  isOrphan(comment: string, since: (pid: number) => string | undefined): boolean {
    const owner = ownerOf(comment)
    if (!owner || owner.session === this.#marker || owner.host !== this.#owner.host) return false
    return since(Number(owner.pid)) !== owner.since
  }
}

function ownerOf(comment: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(comment)
    const owner = isRecord(parsed) ? parsed.manyhost : undefined
    return isRecord(owner) ? owner : undefined
  } catch {
    return undefined
  }
}

/** When a process of this machine began, in ticks since the system did: a number may be given to another one later. */
export function startedAt(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' || state === 'X' ? undefined : rest[18]
  } catch {
    return process.platform === 'linux' ? undefined : ''
  }
}
