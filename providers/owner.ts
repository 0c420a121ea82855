/** Whose something is that an engine keeps: by that a session knows what those have left that were killed. */
import { isDead, ownIdentity } from '../src/posix/identity.ts'

/** What is carried: the session, and the program that it was a session of. */
export interface Belongs {
  readonly session: string | undefined
  readonly owner: string
}

/** Who asks. */
export interface Mine {
  readonly session: string
  /** The program's own name, where it has one. */
  readonly owner: string | undefined
}

/** Removals at a time. */
const LANES = 8

/** This process among all that there ever were. */
export const ownOwner = ownIdentity

/** Whether nobody looks after it any more. What no session has made is nobody's to remove. */
export function isLeft({ session, owner }: Belongs, mine: Mine): boolean {
  if (session === undefined || session === mine.session) return false
  return (mine.owner !== undefined && owner === mine.owner) || isDead(owner)
}

/** Removes all of them, a few at a time; rejects when one could not be removed, and the rest of its lane is left then. */
export async function removeAll<T>(
  left: readonly T[],
  remove: (one: T) => Promise<unknown>,
): Promise<void> {
  const waiting = [...left]
  const lane = async (): Promise<void> => {
    for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) await remove(one)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}
