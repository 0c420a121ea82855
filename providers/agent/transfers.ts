/** Files to an agent and back, each tree over a link of its own that the agent dials: control does not wait behind it. */
import type { HostingEnd, PostingEnd } from '../../src/wire/index.ts'
import type { Member } from './member.ts'
import { Tickets } from './tickets.ts'
import { Landing, sendTree } from './tree.ts'

/** Longest that an agent may take to dial, in ms. */
const TIMEOUT = 30_000

interface Road {
  readonly po: PostingEnd
  readonly ho: HostingEnd
  /** Lets the peer of that link send files here. */
  readonly open: (landing: Landing) => void
}

export class Transfers {
  readonly #tickets = new Tickets<Road>('a connection for files')

  /** An agent has come with a ticket: whether it is good. */
  arrive(id: string, ident: string | undefined, road: Road): boolean {
    return this.#tickets.use(id, ident, road)
  }

  /** Sends what is at `local`; `ask` tells the agent to dial, with the ticket. */
  async send(
    member: Member,
    local: string,
    signal: AbortSignal,
    ask: (ticket: string) => Promise<unknown>,
  ): Promise<void> {
    const ticket = this.#tickets.issue(member.ident, TIMEOUT)
    const sent = ticket.used.then(async ({ po }) => {
      await sendTree(po, local, signal).finally(() => void po.disconnect())
    })
    const asked = ask(ticket.id).catch((error) => {
      ticket.fail(error)
      throw error
    })
    await Promise.all([asked, sent])
  }

  /** Takes what the agent sends; the caller moves it from there, and removes the landing. */
  async take(member: Member, ask: (ticket: string) => Promise<unknown>): Promise<Landing> {
    const landing = await Landing.make()
    const ticket = this.#tickets.issue(member.ident, TIMEOUT)
    const opened = ticket.used.then(({ open }) => open(landing))
    const asked = ask(ticket.id).catch((error) => {
      ticket.fail(error)
      throw error
    })
    try {
      await Promise.all([asked, opened])
      return landing
    } catch (error) {
      await landing.remove()
      throw error
    }
  }
}
