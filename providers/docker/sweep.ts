/** Removes what sessions left that were killed: their containers, which carry the name of their process. */
import { isOrphan, removeAll, type SelfIdentity } from '../shared/orphans.ts'
import type { DockerEngine } from './engine.ts'
import { OWNER_LABEL, SESSION_LABEL } from './labels.ts'

export async function sweepContainers(engine: DockerEngine, self: SelfIdentity): Promise<void> {
  const filters = JSON.stringify({ label: [SESSION_LABEL] })
  const all = await engine.call('list containers', (docker, abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal } as object),
  )
  const left = all.filter(({ Labels }) => {
    return isOrphan({ session: Labels[SESSION_LABEL], owner: Labels[OWNER_LABEL] ?? '' }, self)
  })
  await removeAll(left, ({ Id }) => engine.remove(Id))
}
