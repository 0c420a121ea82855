/**
 * Connections to instances behind agents: asked for over the agent's link, dialled by the agent, known by a ticket. What
 * comes of it is a plain socket, for undici to speak HTTP over; bytes, flow control and upgrades are TCP's from there on.
 */

import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { asError } from '../../src/core/errors.ts'
import { afterUnref } from '../../src/core/time.ts'
import { code, type HostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection } from './agent-connection.ts'
import { type DialToken, DialTokens } from './dial-tokens.ts'
import { holdEndUntilProven } from './tunnel-end.ts'

/** AgentTunnels that are on their way, over all agents; more fail at once. */
const MAX_OPENING = 20_000

/** How long the end of a lane may take when its server has broken the connection, in ms. */
const MAX_END_TIME = 60_000

interface AgentTunnel {
  readonly connection: AgentConnection
  readonly instance: string
  readonly token: DialToken<Duplex>
  socket?: Duplex
  /** Says whether the server itself has ended its connection. */
  readonly properEnd: Promise<boolean>
  readonly setProperEnd: (isTrue: boolean) => void
}

export class AgentTunnels {
  readonly #timeout: number
  readonly #tokens = new DialTokens<Duplex>('a connection of the agent')
  readonly #tunnels = new Map<string, AgentTunnel>()

  constructor(timeout: number) {
    this.#timeout = timeout
  }

  /** Those that are open, or on their way. */
  get size(): number {
    return this.#tunnels.size
  }

  async open(member: AgentConnection, instance: string): Promise<Socket> {
    if (this.#tokens.size >= MAX_OPENING) throw new Error(`${MAX_OPENING} lanes are on their way`)
    const { po } = member
    const ticket = this.#tokens.issue(member.ident, this.#timeout)
    const lane = createTunnel(member, instance, ticket)
    this.#tunnels.set(ticket.id, lane)
    po.notif(code`lane(${instance}, ${ticket.id})`).catch((error) => ticket.fail(asError(error)))
    try {
      const socket = await ticket.redeemed
      lane.socket = socket
      socket.once('close', () => this.#remove(ticket.id))
      return holdEndUntilProven(socket, lane.properEnd) as Socket
    } catch (error) {
      this.#remove(ticket.id)
      throw error
    }
  }

  #remove(id: string): void {
    this.#tunnels.get(id)?.setProperEnd(false)
    this.#tunnels.delete(id)
  }

  /** An agent has come over `ho` with a ticket: answers whether it is good, and takes the connection. */
  acceptDialled(ho: HostingEnd, id: string, ident: string | undefined): boolean {
    const lane = this.#tunnels.get(id)
    if (!lane || lane.connection.ident !== ident || lane.socket) return false
    // Not awaited: it waits for the end of the very conversation that asks.
    void ho.release().then(
      (socket) => {
        // Errors between two owners have nobody to tell.
        socket.on('error', () => {})
        if (!this.#tokens.redeem(id, ident, socket)) socket.destroy()
      },
      (error) => this.#tokens.fail(id, ident, asError(error)),
    )
    return true
  }

  /** The agent cannot connect to the instance. */
  failOpening(member: AgentConnection, id: string, error: Error): void {
    if (this.#tunnels.get(id)?.connection === member) this.#tokens.fail(id, member.ident, error)
  }

  /** The instance has ended its connection; or broken it. */
  markServerEnded(member: AgentConnection, id: string, isProper: boolean): void {
    const lane = this.#tunnels.get(id)
    if (lane?.connection !== member) return
    lane.setProperEnd(isProper)
    const { socket } = lane
    if (isProper || !socket) return
    // Its last bytes, and its end, may still be on their way.
    const timer = afterUnref(MAX_END_TIME, () => socket.destroy(createResetError()))
    socket.once('close', () => timer.clear())
  }

  /** All lanes of one that has ended. */
  failInstanceTunnels(
    { connection, id }: { connection: AgentConnection; id: string },
    error: Error,
  ): void {
    for (const lane of this.#tunnels.values()) {
      if (lane.connection !== connection || lane.instance !== id) continue
      lane.token.fail(error)
      // The pool destroys its own in the next tick; one that is between the two is nobody's.
    }
  }

  /**
   * The link to an agent has ended: those that are on their way may never have been asked for. How one has ended
   * whose end comes meanwhile, nobody says: it counts as reset.
   */
  failOpeningOfAgent(member: AgentConnection, error: Error): void {
    for (const lane of [...this.#tunnels.values()]) {
      if (lane.connection === member && !lane.socket) lane.token.fail(error)
    }
  }

  close(error: Error): void {
    for (const { token: ticket, socket } of [...this.#tunnels.values()]) {
      ticket.fail(error)
      socket?.destroy()
    }
  }
}

function createTunnel(
  member: AgentConnection,
  instance: string,
  ticket: DialToken<Duplex>,
): AgentTunnel {
  let prove!: (isTrue: boolean) => void
  const proof = new Promise<boolean>((resolve) => {
    prove = resolve
  })
  return { connection: member, instance, token: ticket, properEnd: proof, setProperEnd: prove }
}

function createResetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}
