/**
 * Tunnels: connections to instances behind agents. The hub asks for one over the agent's link, and the agent dials it and
 * shows a token. The result is a plain socket over which undici speaks HTTP. From then on, flow control and upgrades are
 * those of TCP.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Deferred, deferred } from '../../src/core/deferred.ts'
import { asError } from '../../src/core/errors.ts'
import { createResetError } from '../../src/core/http/reset-connection.ts'
import { afterUnref } from '../../src/core/time.ts'
import { code, type HostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection } from './agent-connection.ts'
import { type DialToken, DialTokens } from './dial-tokens.ts'
import { holdEndUntilProven } from './tunnel-end.ts'

/** Tunnels that are being opened, over all agents. More fail at once. */
const MAX_OPENING = 20_000

/** Milliseconds that the end of a tunnel may take after its server has broken the connection. */
const MAX_END_TIME = 60_000

interface AgentTunnel {
  readonly connection: AgentConnection
  /** Id of the instance. */
  readonly instance: string
  readonly token: DialToken<Duplex>
  /** Set when the tunnel is open. */
  socket?: Duplex
  /** Resolves with whether the server itself has ended its connection properly. */
  readonly properEnd: Deferred<boolean>
}

export class AgentTunnels {
  readonly #timeout: number
  readonly #tokens = new DialTokens<Duplex>('a connection of the agent')
  /** By the id of the token. */
  readonly #tunnels = new Map<string, AgentTunnel>()

  /** @param timeout milliseconds for opening a tunnel */
  constructor(timeout: number) {
    this.#timeout = timeout
  }

  /** Number of tunnels that are open or being opened. */
  get size(): number {
    return this.#tunnels.size
  }

  async open(connection: AgentConnection, instance: string): Promise<Socket> {
    if (this.#tokens.size >= MAX_OPENING) {
      throw new Error(`${MAX_OPENING} tunnels to agents are being opened already`)
    }
    const { po } = connection
    const token = this.#tokens.issue(connection.ident, this.#timeout)
    const tunnel: AgentTunnel = { connection, instance, token, properEnd: deferred() }
    this.#tunnels.set(token.id, tunnel)
    po.notif(code`lane(${instance}, ${token.id})`).catch((error) => token.fail(asError(error)))
    try {
      const socket = await token.redeemed
      tunnel.socket = socket
      socket.once('close', () => this.#remove(token.id))
      return holdEndUntilProven(socket, tunnel.properEnd.promise) as Socket
    } catch (error) {
      this.#remove(token.id)
      throw error
    }
  }

  #remove(id: string): void {
    this.#tunnels.get(id)?.properEnd.resolve(false)
    this.#tunnels.delete(id)
  }

  /** An agent has shown a token over `ho`. Returns whether the token is good, and takes the connection if it is. */
  acceptDialled(ho: HostingEnd, id: string, ident: string | undefined): boolean {
    const tunnel = this.#tunnels.get(id)
    if (!tunnel || tunnel.connection.ident !== ident || tunnel.socket) return false
    // Not awaited: `release` waits for the end of the conversation in which this call is made.
    void ho.release().then(
      (socket) => {
        // An error before undici has the socket would be an uncaught exception; undici sees the close.
        socket.on('error', () => {})
        if (!this.#tokens.redeem(id, ident, socket)) socket.destroy()
      },
      (error) => this.#tokens.fail(id, ident, asError(error)),
    )
    return true
  }

  /** The agent cannot connect to the instance. */
  failOpening(connection: AgentConnection, id: string, error: Error): void {
    if (this.#tunnels.get(id)?.connection === connection) {
      this.#tokens.fail(id, connection.ident, error)
    }
  }

  /** The instance has ended its connection, properly or by breaking it. */
  markServerEnded(connection: AgentConnection, id: string, isProper: boolean): void {
    const tunnel = this.#tunnels.get(id)
    if (tunnel?.connection !== connection) return
    tunnel.properEnd.resolve(isProper)
    const { socket } = tunnel
    if (isProper || !socket) return
    // The last bytes of the server, and the end of the tunnel, may still be on their way.
    const timer = afterUnref(MAX_END_TIME, () => socket.destroy(createResetError()))
    socket.once('close', () => timer.clear())
  }

  /**
   * An instance has ended: its tunnels that are being opened fail. Open ones are in the pool of the instance, which
   * destroys them.
   */
  failInstanceTunnels(connection: AgentConnection, instance: string, error: Error): void {
    for (const tunnel of this.#tunnels.values()) {
      if (tunnel.connection !== connection || tunnel.instance !== instance) continue
      tunnel.token.fail(error)
    }
  }

  /**
   * The link to an agent has ended: its tunnels that are being opened fail, because the agent may never have got the
   * message that asks for them. Open tunnels live on. If one of them ends before the agent has returned, nobody says how
   * its server has ended, so its end counts as a reset.
   */
  failOpeningOfAgent(connection: AgentConnection, error: Error): void {
    for (const tunnel of [...this.#tunnels.values()]) {
      if (tunnel.connection === connection && !tunnel.socket) tunnel.token.fail(error)
    }
  }

  close(error: Error): void {
    for (const { token, socket } of [...this.#tunnels.values()]) {
      token.fail(error)
      socket?.destroy()
    }
  }
}
