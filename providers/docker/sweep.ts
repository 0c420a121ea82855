/** Removes what sessions left that were killed: their containers, which carry the name of their process. */
import { isLeft, type Mine, removeAll } from '../owner.ts'
import type { Engine } from './engine.ts'
import { OWNER, SESSION } from './labels.ts'

export async function sweep(engine: Engine, mine: Mine): Promise<void> {
  const filters = JSON.stringify({ label: [SESSION] })
  const all = await engine.call('list containers', (docker, abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal } as object),
  )
  const left = all.filter(({ Labels }) => {
    return isLeft({ session: Labels[SESSION], owner: Labels[OWNER] ?? '' }, mine)
  })
  await removeAll(left, ({ Id }) => engine.remove(Id))
}
