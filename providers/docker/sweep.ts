/** Removes what sessions left that were killed: their containers, which carry the name of their process. */
import type { Engine } from './engine.ts'
import { isDead, OWNER, SESSION } from './labels.ts'

/** Removals at a time. */
const LANES = 8

export interface Mine {
  readonly session: string
  /** The program's own name, where it has one. */
  readonly owner: string | undefined
}

export async function sweep(engine: Engine, mine: Mine): Promise<void> {
  const filters = JSON.stringify({ label: [SESSION] })
  const all = await engine.call('list containers', (docker, abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal } as object),
  )
  const left = all.filter(({ Labels }) => isLeft(Labels, mine)).map(({ Id }) => Id)
  const lane = async (): Promise<void> => {
    for (let id = left.pop(); id !== undefined; id = left.pop()) await engine.remove(id)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}

/** Whether nobody looks after it any more. */
export function isLeft(
  labels: Readonly<Record<string, string>>,
  { session, owner }: Mine,
): boolean {
  if (labels[SESSION] === undefined || labels[SESSION] === session) return false
  const its = labels[OWNER] ?? ''
  return (owner !== undefined && its === owner) || isDead(its)
}
