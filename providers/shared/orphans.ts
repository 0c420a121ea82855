/** Whose something is that an engine keeps: by that a session knows what those have left that were killed. */
import { isDead, ownIdentity } from '../../src/posix/identity.ts'

/** What is carried: the session, and the program that it was a session of. */
export interface OwnerLabel {
  readonly session: string | undefined
  readonly owner: string
}

/** Who asks. */
export interface SelfIdentity {
  readonly session: string
  /** The program's own name, where it has one. */
  readonly owner: string | undefined
}

/** Removals at a time. */
const MAX_REMOVALS = 8

/** This process among all that there ever were. */
export const processIdentity = ownIdentity

/** Whether nobody looks after it any more. What no session has made is nobody's to remove. */
export function isOrphan({ session, owner }: OwnerLabel, self: SelfIdentity): boolean {
  if (session === undefined || session === self.session) return false
  return (self.owner !== undefined && owner === self.owner) || isDead(owner)
}

/** Removes all of them, a few at a time; rejects when one could not be removed, and the rest of its lane is left then. */
export async function removeAll<T>(
  items: readonly T[],
  remove: (one: T) => Promise<unknown>,
): Promise<void> {
  const waiting = [...items]
  const lane = async (): Promise<void> => {
    for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) await remove(one)
  }
  await Promise.all(Array.from({ length: MAX_REMOVALS }, lane))
}
