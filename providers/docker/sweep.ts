/** Removes the containers that killed sessions left. A label of each container names the process of its session. */
import { isOrphan, removeAll, type SelfIdentity } from '../shared/orphans.ts'
import type { DockerEngine } from './engine.ts'
import { OWNER_LABEL, SESSION_LABEL } from './labels.ts'

export async function sweepContainers(engine: DockerEngine, self: SelfIdentity): Promise<void> {
  const filters = JSON.stringify({ label: [SESSION_LABEL] })
  const all = await engine.call('list containers', (docker, abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal } as object),
  )
  const orphans = all.filter(({ Labels }) => {
    return isOrphan({ session: Labels[SESSION_LABEL], owner: Labels[OWNER_LABEL] ?? '' }, self)
  })
  await removeAll(orphans, ({ Id }) => engine.remove(Id))
}
