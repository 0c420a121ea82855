/**
 * Connections to instances behind agents: asked for over the agent's link, dialled by the agent, known by a ticket. What
 * comes of it is a plain socket, for undici to speak HTTP over; bytes, flow control and upgrades are TCP's from there on.
 */

import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { asError } from '../../src/core/errors.ts'
import { afterIdly } from '../../src/core/time.ts'
import { code, type HostingEnd } from '../../src/wire/index.ts'
import { provenEnd } from './ending.ts'
import type { Member } from './member.ts'
import { type Ticket, Tickets } from './tickets.ts'

/** Lanes that are on their way, over all agents; more fail at once. */
const MOST_OPENING = 20_000

/** How long the end of a lane may take when its server has broken the connection, in ms. */
const LONGEST_END = 60_000

interface Lane {
  readonly member: Member
  readonly instance: string
  readonly ticket: Ticket<Duplex>
  socket?: Duplex
  /** Says whether the server itself has ended its connection. */
  readonly proof: Promise<boolean>
  readonly prove: (isTrue: boolean) => void
}

export class Lanes {
  readonly #timeout: number
  readonly #tickets = new Tickets<Duplex>('a connection of the agent')
  readonly #lanes = new Map<string, Lane>()

  constructor(timeout: number) {
    this.#timeout = timeout
  }

  /** Those that are open, or on their way. */
  get size(): number {
    return this.#lanes.size
  }

  async open(member: Member, instance: string): Promise<Socket> {
    if (this.#tickets.size >= MOST_OPENING)
      throw new Error(`${MOST_OPENING} lanes are on their way`)
    const { po } = member
    const ticket = this.#tickets.issue(member.ident, this.#timeout)
    const lane = makeLane(member, instance, ticket)
    this.#lanes.set(ticket.id, lane)
    po.notif(code`lane(${instance}, ${ticket.id})`).catch((error) => ticket.fail(asError(error)))
    try {
      const socket = await ticket.used
      lane.socket = socket
      socket.once('close', () => this.#drop(ticket.id))
      return provenEnd(socket, lane.proof) as Socket
    } catch (error) {
      this.#drop(ticket.id)
      throw error
    }
  }

  #drop(id: string): void {
    this.#lanes.get(id)?.prove(false)
    this.#lanes.delete(id)
  }

  /** An agent has come over `ho` with a ticket: answers whether it is good, and takes the connection. */
  arrive(ho: HostingEnd, id: string, ident: string | undefined): boolean {
    const lane = this.#lanes.get(id)
    if (!lane || lane.member.ident !== ident || lane.socket) return false
    // Not awaited: it waits for the end of the very conversation that asks.
    void ho.release().then(
      (socket) => {
        // Errors between two owners have nobody to tell.
        socket.on('error', () => {})
        if (!this.#tickets.use(id, ident, socket)) socket.destroy()
      },
      (error) => this.#tickets.fail(id, ident, asError(error)),
    )
    return true
  }

  /** The agent cannot connect to the instance. */
  refuse(member: Member, id: string, error: Error): void {
    if (this.#lanes.get(id)?.member === member) this.#tickets.fail(id, member.ident, error)
  }

  /** The instance has ended its connection; or broken it. */
  ended(member: Member, id: string, isProper: boolean): void {
    const lane = this.#lanes.get(id)
    if (lane?.member !== member) return
    lane.prove(isProper)
    const { socket } = lane
    if (isProper || !socket) return
    // Its last bytes, and its end, may still be on their way.
    const timer = afterIdly(LONGEST_END, () => socket.destroy(reset()))
    socket.once('close', () => timer.clear())
  }

  /** All lanes of one that has ended. */
  closeOf({ member, id }: { member: Member; id: string }, error: Error): void {
    for (const lane of this.#lanes.values()) {
      if (lane.member !== member || lane.instance !== id) continue
      lane.ticket.fail(error)
      // The pool destroys its own in the next tick; one that is between the two is nobody's.
    }
  }

  /**
   * The link to an agent has ended: those that are on their way may never have been asked for. How one has ended
   * whose end comes meanwhile, nobody says: it counts as reset.
   */
  cut(member: Member, error: Error): void {
    for (const lane of [...this.#lanes.values()]) {
      if (lane.member === member && !lane.socket) lane.ticket.fail(error)
    }
  }

  close(error: Error): void {
    for (const { ticket, socket } of [...this.#lanes.values()]) {
      ticket.fail(error)
      socket?.destroy()
    }
  }
}

function makeLane(member: Member, instance: string, ticket: Ticket<Duplex>): Lane {
  let prove!: (isTrue: boolean) => void
  const proof = new Promise<boolean>((resolve) => {
    prove = resolve
  })
  return { member, instance, ticket, proof, prove }
}

function reset(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}
