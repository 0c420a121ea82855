/**
 * A small yagna: the part of its REST and websocket API that golem-js 3.6 asks for, with a market of its own whose
 * nodes run what they are told to as processes of this machine. An instance listens on its address in the private
 * network, so that has to be one of 127.0.0.0/8.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { stamp } from './feed.ts'
import { Machine } from './machine.ts'
import { Market, type Node, REQUESTOR } from './market.ts'
import { Transfers } from './transfers.ts'

export interface YagnaOptions {
  readonly key: string
  readonly volume: string
  readonly nodes: readonly Node[]
}

interface Allocation {
  readonly allocationId: string
  readonly totalAmount: string
}

interface Vpn {
  readonly ip: string
  readonly mask: string
  readonly nodes: Map<string, string>
}

interface Asked {
  readonly query: URLSearchParams
  readonly body: Readonly<Record<string, unknown>>
  /** What the pattern has caught. */
  readonly ids: readonly string[]
  readonly isOver: () => boolean
}

type Answer = unknown
type Route = readonly [method: string, path: RegExp, answer: (asked: Asked) => Answer]

/** An answer that is no success. */
class No extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export class Yagna {
  readonly market: Market
  readonly machines = new Map<string, Machine>()
  readonly allocations = new Map<string, Allocation>()
  readonly networks = new Map<string, Vpn>()
  readonly transfers = new Transfers()
  /** Scripts of all exe units, as they came. */
  readonly scripts: string[] = []
  /** Paths that were asked for. */
  readonly asked: string[] = []
  /** While it is true, the REST API breaks each connection. */
  isAway = false
  readonly #options: YagnaOptions
  readonly #server: Server
  readonly #sockets = new Set<Duplex>()
  readonly #websockets = new WebSocketServer({ noServer: true })
  readonly #routes: readonly Route[]
  #isClosed = false

  constructor(options: YagnaOptions) {
    this.#options = options
    this.market = new Market(options.nodes)
    this.#server = createServer((request, response) => void this.#answer(request, response))
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    this.#server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) =>
      this.#upgrade(request, socket, head),
    )
    this.#routes = [
      ...this.#general(),
      ...this.#payments(),
      ...this.#demands(),
      ...this.#agreements(),
      ...this.#activities(),
    ]
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#isClosed = true
    for (const machine of this.machines.values()) machine.end()
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  /** The machine that runs the instance, by what it was told to start. */
  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.isAway) return void request.socket.destroy()
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
    this.asked.push(`${request.method} ${pathname}`)
    let text = ''
    for await (const chunk of request.setEncoding('utf8')) text += chunk
    let isGone = false
    response.once('close', () => {
      isGone = true
    })
    const say = (status: number, answer: Answer): void => {
      if (answer === undefined) return void response.writeHead(204).end()
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    }
    const isPublic = pathname === '/version/get' || pathname.startsWith('/v1/image')
    if (!isPublic && request.headers.authorization !== `Bearer ${this.#options.key}`) {
      return say(401, { message: 'no valid app key' })
    }
    for (const [method, path, answer] of this.#routes) {
      const found = method === request.method ? path.exec(pathname) : null
      if (!found) continue
      try {
        const body = text === '' ? {} : JSON.parse(text)
        const isOver = (): boolean => isGone || this.#isClosed || this.isAway
        return say(200, await answer({ query: searchParams, body, ids: found.slice(1), isOver }))
      } catch (error) {
        if (!(error instanceof No)) console.error(error)
        return say(error instanceof No ? error.status : 500, { message: String(error) })
      }
    }
    console.error(`!! the fake yagna has no ${request.method} ${request.url}`)
    say(501, { message: `no ${request.method} ${pathname}` })
  }

  #general(): Route[] {
    return [
      ['GET', /^\/version\/get$/, () => ({ current: { version: '0.17.3', name: 'fake' } })],
      ['GET', /^\/me$/, () => ({ identity: REQUESTOR, name: 'me', role: 'manager' })],
      [
        'GET',
        /^\/v1\/image\/info$/,
        ({ query }) => {
          if (query.get('tag') === 'no/such:image') throw new No(404, 'there is no such image')
          const sha3 = query.get('hash') ?? 'ab'.repeat(28)
          return { http: 'http://x/image', https: 'https://x/image', sha3 }
        },
      ],
      [
        'POST',
        /^\/gsb-api\/v1\/services$/,
        ({ body }) => ({
          servicesId: this.transfers.bind((body as { listen: { on: string } }).listen.on),
        }),
      ],
      [
        'DELETE',
        /^\/gsb-api\/v1\/services\/([^/]+)$/,
        ({ ids }) => {
          this.transfers.unbind(ids[0] as string)
        },
      ],
      [
        'POST',
        /^\/net-api\/v1\/net$/,
        ({ body }) => {
          const { ip, mask } = body as { ip: string; mask: string }
          // On the market each network is private. Here all are on one machine, so none may be there twice.
          if ([...this.networks.values()].some((one) => one.ip === ip)) {
            throw new No(400, `another network of this fake has the addresses ${ip}`)
          }
          const id = randomUUID()
          this.networks.set(id, { ip, mask, nodes: new Map() })
          return { id, ip, mask, gateway: undefined }
        },
      ],
      [
        'DELETE',
        /^\/net-api\/v1\/net\/([^/]+)$/,
        ({ ids }) => {
          if (!this.networks.delete(ids[0] as string)) throw new No(404, 'no such network')
        },
      ],
      [
        'POST',
        /^\/net-api\/v1\/net\/([^/]+)\/nodes$/,
        ({ ids, body }) => {
          const { id, ip } = body as { id: string; ip: string }
          this.networks.get(ids[0] as string)?.nodes.set(id, ip)
        },
      ],
      [
        'DELETE',
        /^\/net-api\/v1\/net\/([^/]+)\/nodes\/([^/]+)$/,
        ({ ids }) => {
          this.networks.get(ids[0] as string)?.nodes.delete(ids[1] as string)
        },
      ],
    ]
  }

  #payments(): Route[] {
    const base = '^/payment-api/v1'
    const events = (name: string, feed: 'debitNoteEvents' | 'invoiceEvents'): Route => [
      'GET',
      new RegExp(`${base}/${name}$`),
      ({ query, isOver }) =>
        this.market[feed].poll(query.get('afterTimestamp'), Number(query.get('timeout')), isOver),
    ]
    return [
      [
        'POST',
        new RegExp(`${base}/allocations$`),
        ({ body }) => {
          const { totalAmount } = body as { totalAmount: string }
          if (Number(totalAmount) > 1_000) throw new No(400, 'insufficient funds')
          const allocation = {
            ...(body as object),
            allocationId: randomUUID(),
            totalAmount,
            spentAmount: '0',
            remainingAmount: totalAmount,
            timestamp: stamp(),
          }
          this.allocations.set(allocation.allocationId, allocation)
          return allocation
        },
      ],
      [
        'GET',
        new RegExp(`${base}/allocations/([^/]+)$`),
        ({ ids }) => {
          const found = this.allocations.get(ids[0] as string)
          if (!found) throw new No(404, 'no such allocation')
          return found
        },
      ],
      [
        'DELETE',
        new RegExp(`${base}/allocations/([^/]+)$`),
        ({ ids }) => {
          if (!this.allocations.delete(ids[0] as string)) throw new No(404, 'no such allocation')
        },
      ],
      [
        'GET',
        new RegExp(`${base}/demandDecorations$`),
        () => ({
          properties: [
            { key: 'golem.com.payment.platform.erc20-holesky-tglm.address', value: REQUESTOR },
          ],
          constraints: ['(golem.com.payment.platform.erc20-holesky-tglm.address=*)'],
        }),
      ],
      events('debitNoteEvents', 'debitNoteEvents'),
      events('invoiceEvents', 'invoiceEvents'),
      [
        'GET',
        new RegExp(`${base}/(?:invoices|debitNotes)/([^/]+)$`),
        ({ ids }) => {
          const found = this.market.document(ids[0] as string)
          if (!found) throw new No(404, 'no such bill')
          return found
        },
      ],
      [
        'POST',
        new RegExp(`${base}/(?:invoices|debitNotes)/([^/]+)/(accept|reject)$`),
        ({ ids }) => {
          const bill = this.market.bills.get(ids[0] as string)
          if (bill) bill.status = ids[1] === 'accept' ? 'ACCEPTED' : 'REJECTED'
        },
      ],
    ]
  }

  #demands(): Route[] {
    const base = '^/market-api/v1/demands'
    return [
      ['POST', new RegExp(`${base}$`), ({ body }) => this.market.subscribe(body as never)],
      [
        'DELETE',
        new RegExp(`${base}/([^/]+)$`),
        ({ ids }) => {
          if (!this.market.unsubscribe(ids[0] as string)) throw new No(404, 'no such demand')
        },
      ],
      [
        'GET',
        new RegExp(`${base}/([^/]+)/events$`),
        async ({ ids, query, isOver }) => {
          const demand = this.market.demands.get(ids[0] as string)
          if (!demand) throw new No(404, 'no such demand')
          const seconds = Number(query.get('timeout') ?? 5)
          const events = await demand.events.drain(seconds, () => isOver() || demand.isOver)
          if (demand.isOver) throw new No(404, 'no such demand')
          return events
        },
      ],
      [
        'POST',
        new RegExp(`${base}/([^/]+)/proposals/([^/]+)$`),
        ({ ids, body }) => {
          const [demand = '', proposal = ''] = ids
          const made = this.market.counter(demand, proposal, body as never)
          if (made === undefined) throw new No(404, 'no such proposal')
          return made
        },
      ],
      [
        'GET',
        new RegExp(`${base}/([^/]+)/proposals/([^/]+)$`),
        ({ ids }) => {
          const found = this.market.proposals.get(ids[1] as string)
          if (!found) throw new No(404, 'no such proposal')
          return found
        },
      ],
    ]
  }

  #agreements(): Route[] {
    const base = '^/market-api/v1'
    const get = (ids: readonly string[]) => {
      const found = this.market.agreements.get(ids[0] as string)
      if (!found) throw new No(404, 'no such agreement')
      return found
    }
    return [
      [
        'GET',
        new RegExp(`${base}/agreementEvents$`),
        ({ query, isOver }) =>
          this.market.agreementEvents.poll(
            query.get('afterTimestamp'),
            Number(query.get('timeout')),
            isOver,
          ),
      ],
      [
        'POST',
        new RegExp(`${base}/agreements$`),
        ({ body }) => {
          const { proposalId, validTo } = body as { proposalId: string; validTo: string }
          const made = this.market.agree(proposalId, validTo)
          if (made === undefined) throw new No(404, 'no such proposal')
          return made
        },
      ],
      ['GET', new RegExp(`${base}/agreements/([^/]+)$`), ({ ids }) => get(ids)],
      [
        'POST',
        new RegExp(`${base}/agreements/([^/]+)/confirm$`),
        ({ ids }) => {
          get(ids).state = 'Pending'
        },
      ],
      [
        'POST',
        new RegExp(`${base}/agreements/([^/]+)/wait$`),
        ({ ids }) => {
          const agreement = get(ids)
          this.market.decide(agreement)
          if (agreement.state !== 'Approved') throw new No(410, 'the node said no')
        },
      ],
      [
        'POST',
        new RegExp(`${base}/agreements/([^/]+)/terminate$`),
        ({ ids, body }) => {
          const agreement = get(ids)
          const { message } = body as { message: string }
          this.market.terminate(agreement, 'Requestor', message)
          this.#endMachinesOf(agreement.agreementId)
        },
      ],
    ]
  }

  /** The node of this agreement takes its machine away. */
  terminate(agreementId: string, message = 'no power'): void {
    const agreement = this.market.agreements.get(agreementId)
    if (!agreement) throw new Error('no such agreement')
    this.market.terminate(agreement, 'Provider', message)
    this.#endMachinesOf(agreementId)
  }

  #endMachinesOf(agreement: string): void {
    for (const machine of this.machines.values()) if (machine.agreement === agreement) machine.end()
  }

  #activities(): Route[] {
    const base = '^/activity-api/v1/activity'
    const get = (ids: readonly string[]): Machine => {
      const found = this.machines.get(ids[0] as string)
      if (!found) throw new No(404, 'no such activity')
      return found
    }
    const living = (ids: readonly string[]): Machine => {
      const found = get(ids)
      if (found.state === 'Terminated') throw new No(404, 'that activity has ended')
      return found
    }
    return [
      [
        'POST',
        new RegExp(`${base}$`),
        ({ body }) => {
          const { agreementId } = body as { agreementId: string }
          const agreement = this.market.agreements.get(agreementId)
          if (agreement?.state !== 'Approved') throw new No(403, 'no such agreement')
          const { volume } = this.#options
          const failsToDeploy = agreement.node.failsToDeploy === true
          const machine = new Machine(agreementId, this.transfers, { volume, failsToDeploy })
          this.machines.set(machine.id, machine)
          return { activityId: machine.id }
        },
      ],
      ['GET', new RegExp(`${base}/([^/]+)/agreement$`), ({ ids }) => get(ids).agreement],
      [
        'GET',
        new RegExp(`${base}/([^/]+)/state$`),
        ({ ids }) => ({
          state: [get(ids).state, null],
        }),
      ],
      ['GET', new RegExp(`${base}/([^/]+)/usage$`), () => ({ currentUsage: [1, 1] })],
      [
        'POST',
        new RegExp(`${base}/([^/]+)/exec$`),
        ({ ids, body }) => {
          const { text } = body as { text: string }
          this.scripts.push(text)
          return living(ids).execute(text)
        },
      ],
      [
        'GET',
        new RegExp(`${base}/([^/]+)/exec/([^/]+)$`),
        async ({ ids, query }) => {
          const seconds = Number(query.get('timeout') ?? 5)
          const results = await living(ids).results(ids[1] as string, seconds)
          if (!results) throw new No(404, 'that activity has ended')
          return results
        },
      ],
      ['DELETE', new RegExp(`${base}/([^/]+)$`), ({ ids }) => living(ids).end()],
    ]
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => {})
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
    const { key } = this.#options
    const isAuthorized =
      request.headers.authorization === `Bearer ${key}` || searchParams.get('authToken') === key
    if (!isAuthorized) return void socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n')
    const service = /^\/gsb-api\/v1\/services\/([^/]+)$/.exec(pathname)?.[1]
    if (service !== undefined) {
      return this.#websockets.handleUpgrade(request, socket, head, (made) =>
        this.transfers.attach(service, made),
      )
    }
    const [, network = '', ip = '', port = ''] =
      /^\/net-api\/v1\/net\/([^/]+)\/tcp\/([^/]+)\/(\d+)$/.exec(pathname) ?? []
    const isThere = [...(this.networks.get(network)?.nodes.values() ?? [])].includes(ip)
    if (!isThere) return void socket.end('HTTP/1.1 404 Not Found\r\n\r\n')
    this.#tunnel(request, socket, head, { host: ip, port: Number(port) })
  }

  /** As yagna does: the machine is connected first, and 504 is the answer when it does not accept. */
  #tunnel(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    to: { host: string; port: number },
  ): void {
    const far = connect(to)
    far.once('error', () => socket.end('HTTP/1.1 504 Gateway Timeout\r\n\r\n'))
    far.once('connect', () => {
      this.#websockets.handleUpgrade(request, socket, head, (made) => {
        far.on('data', (chunk) => made.send(chunk, { binary: true }))
        far.on('error', () => made.terminate())
        far.once('close', () => made.close())
        made.on('message', (data: Buffer) => far.write(data))
        made.once('close', () => far.destroy())
        made.on('error', () => far.destroy())
      })
    })
  }
}
