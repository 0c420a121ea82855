/** The comment of a job: it names the owner of the job, and the labels of its service. */
import type { StartSpec } from '../../src/core/provider.ts'
import { processIdentity } from '../../src/posix/identity.ts'
import { parseJsonObject } from '../shared/json-lines.ts'
import { isRecord } from '../shared/option-rules.ts'
import { isOrphan } from '../shared/orphans.ts'

/** Longest comment, in characters: with the default settings of its database, Slurm keeps no longer one. */
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

  /** Whether the session of the job ran on this machine, and has ended. */
  isOrphan(comment: string): boolean {
    const label = parseOwnerLabel(comment)
    return label !== undefined && isOrphan(label, { session: this.#session, owner: undefined })
  }
}

function parseOwnerLabel(comment: string): { session: string; owner: string } | undefined {
  const label = parseJsonObject(comment)?.manyhost
  if (!isRecord(label) || typeof label.session !== 'string') return undefined
  return { session: label.session, owner: String(label.owner ?? '') }
}
