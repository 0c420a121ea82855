/** What stands in the comment of a job: whose it is, and the labels of its service. */
import type { StartSpec } from '../../src/core/provider.ts'
import { processIdentity } from '../../src/posix/identity.ts'
import { isRecord } from '../shared/option-checks.ts'
import { isOrphan } from '../shared/orphans.ts'

/** Slurm keeps no longer one by default settings of its database, in characters. */
const MAX_COMMENT = 1_000

export class SlurmJobComment {
  readonly #session: string
  readonly #owner: string

  constructor(session: string, owner = processIdentity()) {
    this.#session = session
    this.#owner = owner
  }

  /** JSON: `{ manyhost: { id, session, owner }, labels }`; labels that do not fit are left out. */
  format({ id, labels }: StartSpec): string {
    const manyhost = { id, session: this.#session, owner: this.#owner }
    const whole = JSON.stringify({ manyhost, labels })
    return whole.length <= MAX_COMMENT ? whole : JSON.stringify({ manyhost })
  }

  /** Whether its session was one of this machine, and has ended. */
  isOrphan(comment: string): boolean {
    const its = parseOwnerLabel(comment)
    return its !== undefined && isOrphan(its, { session: this.#session, owner: undefined })
  }
}

function parseOwnerLabel(comment: string): { session: string; owner: string } | undefined {
  try {
    const parsed: unknown = JSON.parse(comment)
    const its = isRecord(parsed) ? parsed.manyhost : undefined
    if (!isRecord(its) || typeof its.session !== 'string') return undefined
    return { session: its.session, owner: String(its.owner ?? '') }
  } catch {
    return undefined
  }
}
