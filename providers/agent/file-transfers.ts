/** Sends files to an agent and receives them. Each tree of files has a link of its own, so control messages do not wait. */
import type { HostingEnd, PostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection } from './agent-connection.ts'
import { type DialToken, DialTokens } from './dial-tokens.ts'
import { ReceivedTree, sendTree } from './file-tree.ts'

/** Milliseconds within which the agent must dial the link for files. */
const DIAL_TIMEOUT = 30_000

/** A link that an agent has dialled for files. */
interface FileLink {
  readonly po: PostingEnd
  readonly ho: HostingEnd
  /** From now on the agent may send files into `tree` over this link. */
  readonly startReceiving: (tree: ReceivedTree) => void
}

/** Sends the agent the token with which it must dial. Resolves when the agent has done what it was asked for. */
type AskToDial = (token: string) => Promise<unknown>

export class FileTransfers {
  readonly #tokens = new DialTokens<FileLink>('a connection for files')

  /** An agent has shown a token. Returns whether the token is good. */
  acceptDialled(id: string, ident: string | undefined, link: FileLink): boolean {
    return this.#tokens.redeem(id, ident, link)
  }

  /** Sends the file or folder `local`. */
  async sendFiles(
    { ident }: AgentConnection,
    local: string,
    signal: AbortSignal,
    ask: AskToDial,
  ): Promise<void> {
    const token = this.#tokens.issue(ident, DIAL_TIMEOUT)
    const sent = token.redeemed.then(async ({ po }) => {
      await sendTree(po, local, signal).finally(() => void po.disconnect())
    })
    await Promise.all([askToDial(token, ask), sent])
  }

  /** Receives what the agent sends. The caller moves it elsewhere, and then removes the received tree. */
  async receiveFiles({ ident }: AgentConnection, ask: AskToDial): Promise<ReceivedTree> {
    const tree = await ReceivedTree.create()
    const token = this.#tokens.issue(ident, DIAL_TIMEOUT)
    const opened = token.redeemed.then(({ startReceiving }) => startReceiving(tree))
    try {
      await Promise.all([askToDial(token, ask), opened])
      return tree
    } catch (error) {
      await tree.remove()
      throw error
    }
  }
}

async function askToDial(token: DialToken<FileLink>, ask: AskToDial): Promise<void> {
  try {
    await ask(token.id)
  } catch (error) {
    token.fail(error as Error)
    throw error
  }
}
