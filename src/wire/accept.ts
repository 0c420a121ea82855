/** The dialled end of a new connection. */
import type { HostingEnd, PostingEnd } from './ends.ts'
import { answerGreeting } from './handshake.ts'
import type { WireLink } from './link.ts'

/** Resolves when the link can be used: at once, or if a proof is required, when the peer has sent it. */
export function acceptLink(link: WireLink): Promise<{ po: PostingEnd; ho: HostingEnd }> {
  link.keepalive.start()
  return new Promise((resolve, reject) => {
    answerGreeting(link, () => {
      link.callInit().then(() => resolve({ po: link.po, ho: link.ho }), reject)
    })
    void link.closed.then(() => {
      try {
        link.assertUp()
      } catch (error) {
        reject(error)
      }
    })
  })
}
