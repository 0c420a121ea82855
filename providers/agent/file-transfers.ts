/** Files to an agent and back, each tree over a link of its own that the agent dials: control does not wait behind it. */
import type { HostingEnd, PostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection } from './agent-connection.ts'
import { DialTokens } from './dial-tokens.ts'
import { ReceivedTree, sendTree } from './file-tree.ts'

/** Longest that an agent may take to dial, in ms. */
const DIAL_TIMEOUT = 30_000

interface FileTransport {
  readonly po: PostingEnd
  readonly ho: HostingEnd
  /** Lets the peer of that link send files here. */
  readonly startReceiving: (landing: ReceivedTree) => void
}

export class FileTransfers {
  readonly #tokens = new DialTokens<FileTransport>('a connection for files')

  /** An agent has come with a ticket: whether it is good. */
  acceptDialled(id: string, ident: string | undefined, road: FileTransport): boolean {
    return this.#tokens.redeem(id, ident, road)
  }

  /** Sends what is at `local`; `ask` tells the agent to dial, with the ticket. */
  async sendFiles(
    member: AgentConnection,
    local: string,
    signal: AbortSignal,
    ask: (ticket: string) => Promise<unknown>,
  ): Promise<void> {
    const ticket = this.#tokens.issue(member.ident, DIAL_TIMEOUT)
    const sent = ticket.redeemed.then(async ({ po }) => {
      await sendTree(po, local, signal).finally(() => void po.disconnect())
    })
    const asked = ask(ticket.id).catch((error) => {
      ticket.fail(error)
      throw error
    })
    await Promise.all([asked, sent])
  }

  /** Takes what the agent sends; the caller moves it from there, and removes the landing. */
  async receiveFiles(
    member: AgentConnection,
    ask: (ticket: string) => Promise<unknown>,
  ): Promise<ReceivedTree> {
    const landing = await ReceivedTree.create()
    const ticket = this.#tokens.issue(member.ident, DIAL_TIMEOUT)
    const opened = ticket.redeemed.then(({ startReceiving: open }) => open(landing))
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
