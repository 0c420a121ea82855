/** Marks the resources of an engine with their owner, so that a session can find and remove what a killed session left. */
import { isDead } from '../../src/posix/identity.ts'

/** The owner of a resource: its session, and the program or process of that session. */
export interface OwnerLabel {
  readonly session: string | undefined
  readonly owner: string
}

/** The session that asks. */
export interface SelfIdentity {
  readonly session: string
  /** The name of the program, from option `owner`. */
  readonly owner: string | undefined
}

/** Number of removals that run at a time. */
const MAX_REMOVALS = 8

/** Whether the owner of a resource has ended. A resource that no session has made is never an orphan. */
export function isOrphan({ session, owner }: OwnerLabel, self: SelfIdentity): boolean {
  if (session === undefined || session === self.session) return false
  return (self.owner !== undefined && owner === self.owner) || isDead(owner)
}

/** Removes all items, a few at a time. Rejects when one could not be removed; some others may then be left. */
export async function removeAll<T>(
  items: readonly T[],
  remove: (one: T) => Promise<unknown>,
): Promise<void> {
  const waiting = [...items]
  const removeNext = async (): Promise<void> => {
    for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) await remove(one)
  }
  await Promise.all(Array.from({ length: MAX_REMOVALS }, removeNext))
}
