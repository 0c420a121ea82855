/** The dialled end of a new connection. */
import type { HostingEnd, PostingEnd } from './ends.ts'
import { expectGreeting } from './greet.ts'
import type { Link } from './link.ts'

/** Resolves when it is known enough to be used: at once, or with the peer's proof. */
export function begin(link: Link): Promise<{ po: PostingEnd; ho: HostingEnd }> {
  link.vigil.begin()
  return new Promise((resolve, reject) => {
    expectGreeting(link, () => {
      link.init().then(() => resolve({ po: link.po, ho: link.ho }), reject)
    })
    void link.closed.then(() => {
      try {
        link.mustBeUp()
      } catch (error) {
        reject(error)
      }
    })
  })
}
