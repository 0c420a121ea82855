/** The request path of the gateway: checks, finds the service, and hands the request to its cluster. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { bodyFor } from '../cluster/request-body.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import type { RequestFacts } from '../dispatch/exchange.ts'
import { requestFacts } from '../dispatch/facts.ts'
import type { Session } from '../session/session.ts'
import { type Aim, aimOf } from './aim.ts'
import { endWith, isGone, writeContinue, writeHead } from './answer.ts'
import { challenge, corsHeaders, isPreflight, preflightHeaders, refusal } from './auth.ts'
import { noteRequest } from './connection.ts'
import { newKey, protocolOf, StreamTunnel, withKey } from './extended.ts'
import { isId, requestHeaders } from './headers.ts'
import { declaredLength, Inflow, tooLarge, WHOLE, whole } from './incoming.ts'
import type { GatewaySettings } from './options.ts'
import { Pace } from './pace.ts'
import { inTurn, isBehind } from './pipeline.ts'
import { priorityOf } from './priority.ts'
import { answerable, answerProblem } from './problem.ts'
import { isForeign, tunnelOf } from './protocols.ts'
import { Relay, type RelayOptions } from './relay.ts'
import { Routes } from './routes.ts'
import { flaw, type RawRequest } from './strict.ts'
import { addressOf, trustOf } from './trust.ts'
import { lingerOf } from './tunnel.ts'
import { responseOn, Tunnel } from './upgrade.ts'
import { answerWaiting, hasReady, Waker, wantsPage } from './waiting.ts'

export class Front {
  readonly #session: Session
  readonly #settings: GatewaySettings
  readonly #routes: Routes
  readonly #isTrusted: (client: string) => boolean
  readonly #pace: Pace
  readonly #via: string
  readonly #waker = new Waker()
  readonly #isClosing: () => boolean

  /** @param isClosing whether connections end with the answers that are under way */
  constructor(session: Session, settings: GatewaySettings, isClosing = () => false) {
    this.#session = session
    this.#settings = settings
    this.#routes = new Routes(session, settings.doors)
    this.#isTrusted = trustOf(settings.trustedProxies)
    this.#pace = new Pace(settings.bodyRate)
    this.#isClosing = isClosing
    this.#via = `1.1 ${settings.via}`
  }

  /** Answers a request; whatever goes wrong is an answer, too. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    this.#arrived(request, response, ignore)
  }

  /** A client that asks before it sends its body is told to go on when the body is wanted, and not before. */
  readonly onContinue = (request: IncomingMessage, response: ServerResponse): void => {
    this.#arrived(request, response, () => writeContinue(response))
  }

  #arrived(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    if (request.httpVersionMajor === 2) {
      if ('stream' in request) {
        // node:http2 reports there what node:http does not report at all: that the client went away.
        request.on('error', ignore)
        // Not if it has gone already: a reset may come in one read with the request.
        if (isGone(request, response)) return
      }
      // A line that says HTTP/2.0 makes no HTTP/2. It is refused in the form that its client can read.
      else request.httpVersionMajor = 1
    }
    if (request.httpVersionMajor !== 2) {
      noteRequest(request.socket, response)
      if (isBehind(request, response)) {
        return inTurn(request, response, () => this.#handle(request, response, begin))
      }
    }
    this.#handle(request, response, begin)
  }

  /** Only for requests that `tunnelOf` knows a protocol of. */
  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', ignore)
    const response = responseOn(request, socket)
    try {
      const aim = this.#aim(request, response)
      if (!aim) return
      const protocol = tunnelOf(request) as string
      const facts = this.#facts(request, aim, null, protocol)
      const tunnel = new Tunnel(
        request,
        response,
        { socket, head, protocol, linger: lingerOf(protocol, this.#settings.tunnelLinger) },
        this.#relayOptions(aim, facts.id, request),
      )
      tunnel.exchange = aim.cluster.send(facts, tunnel)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  /** HTTP/2 only: CONNECT is for WebSockets here (RFC 8441), and else for forward proxies. */
  readonly onConnect = (request: IncomingMessage, response: ServerResponse): void => {
    request.on('error', ignore)
    if (isGone(request, response)) return
    const protocol = protocolOf(request)
    if (protocol !== 'websocket') {
      response.writeHead(protocol === undefined ? 405 : 501).end()
      return
    }
    try {
      const aim = this.#aim(request, response)
      if (!aim) return
      const key = newKey()
      const facts = this.#facts(request, aim, null, protocol, withKey(request.rawHeaders, key))
      const options = this.#relayOptions(aim, facts.id, request)
      const linger = lingerOf(protocol, this.#settings.tunnelLinger)
      const tunnel = new StreamTunnel(request, response, options, { key, linger })
      tunnel.exchange = aim.cluster.send(facts, tunnel)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    try {
      const aim = this.#aim(request, response)
      if (!aim) return
      const length = declaredLength(request)
      if (length === 0) return this.#send(request, response, aim, null)
      const limit = this.#settings.bodySize
      if (length !== Infinity && length > limit) throw tooLarge(limit)
      const inflow = new Inflow(request, { limit, pace: this.#pace, begin })
      if (length <= WHOLE) void this.#sendWhole(request, response, aim, inflow)
      else this.#send(request, response, aim, inflow)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  async #sendWhole(
    request: IncomingMessage,
    response: ServerResponse,
    aim: Aim,
    inflow: Inflow,
  ): Promise<void> {
    try {
      const body = await whole(inflow)
      this.#send(request, response, aim, body)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  #refuse(
    request: IncomingMessage,
    response: ServerResponse,
    error: Error,
    headers: readonly string[] = [],
  ): void {
    // A client that went away hears nothing any more.
    if (isGone(request, response)) return
    const id = request.headers['x-request-id']
    answerProblem(request, response, answerable(error), {
      id: typeof id === 'string' && isId(id) ? id : this.#session.ids.next(),
      headers,
    })
  }

  #send(request: IncomingMessage, response: ServerResponse, aim: Aim, body: unknown): void {
    const facts = this.#facts(request, aim, body, undefined)
    const relay = new Relay(request, response, this.#relayOptions(aim, facts.id, request))
    relay.exchange = aim.cluster.send(facts, relay)
  }

  #relayOptions({ door }: Aim, id: string, { headers }: IncomingMessage): RelayOptions {
    return {
      id,
      via: this.#via,
      serverTiming: door.serverTiming ?? false,
      cors: door.cors && corsHeaders(door.cors, headers.origin),
      isClosing: this.#isClosing,
    }
  }

  #facts(
    request: IncomingMessage,
    { route, door, cluster, path, host }: Aim,
    body: unknown,
    upgrade: string | undefined,
    rawHeaders: readonly string[] = request.rawHeaders,
  ): RequestFacts {
    const { socket } = request
    // An extended CONNECT is an upgrade where there is no HTTP/2.
    const method = request.method === 'CONNECT' ? 'GET' : (request.method ?? 'GET')
    const client = addressOf(socket)
    const keyed = request.headers['idempotency-key'] !== undefined
    return requestFacts({
      method,
      path,
      host: route.host,
      headers: requestHeaders(rawHeaders, {
        client,
        proto: 'encrypted' in socket ? 'https' : 'http',
        host,
        version: request.httpVersion,
        trusted: this.#isTrusted(client),
        tells: this.#settings.forwarded,
        name: this.#settings.via,
        prefix: route.strip,
        keepLength: body !== null,
      }),
      body: bodyFor(cluster, body, method, keyed),
      upgrade,
      routing: door.priorityHeader
        ? { priority: priorityOf(request.headers.priority) }
        : NO_ROUTING,
      ids: this.#session.ids,
    })
  }

  /** What a request is for; undefined when it has been answered already. */
  #aim(request: IncomingMessage, response: ServerResponse): Aim | undefined {
    const isOne = request.httpVersionMajor !== 2
    const wrong =
      isOne && isForeign(request) ? 'a protocol other than HTTP' : flaw(request as RawRequest)
    if (wrong) {
      endWith(request, response)
      throw new ManyhostError('MANYHOST_BAD_REQUEST', `the request has ${wrong}`)
    }
    if (fieldsOf(request) > this.#settings.headerCount) {
      endWith(request, response)
      const most = `${this.#settings.headerCount} (headerCount)`
      throw new ManyhostError(
        'MANYHOST_TOO_MANY_HEADERS',
        `the request has more header fields than ${most}`,
      )
    }
    if (request.url === '*') {
      // Asks what the server as a whole can do (RFC 9110 section 9.3.7): that is us, not a service.
      answerEmpty(request, response, ['allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'])
      return undefined
    }
    const aim = aimOf(request, this.#routes, this.#session)
    const { door, cluster } = aim
    if (door.cors && isPreflight(request)) {
      answerEmpty(request, response, preflightHeaders(door.cors, request))
      return undefined
    }
    const refused = door.auth && refusal(door.auth, request.headers.authorization)
    if (refused) {
      const headers = ['www-authenticate', challenge(door.auth as NonNullable<typeof door.auth>)]
      if (door.cors) headers.push(...corsHeaders(door.cors, request.headers.origin))
      this.#refuse(request, response, refused, headers)
      return undefined
    }
    if (door.waitingPage && wantsPage(request) && !hasReady(cluster)) {
      this.#waker.wake(cluster, () => this.#facts(request, aim, null, undefined))
      answerWaiting(response, cluster)
      return undefined
    }
    return aim
  }

  /** What came before still ends by its rules. */
  close(): void {
    this.#routes.close()
  }
}

const NO_ROUTING = {}

function ignore(): void {}

/** How many header fields there are; those of HTTP/2 that begin with a colon stand for the request line. */
function fieldsOf({ rawHeaders, httpVersionMajor }: IncomingMessage): number {
  let count = rawHeaders.length / 2
  if (httpVersionMajor !== 2) return count
  for (let index = 0; rawHeaders[index]?.startsWith(':'); index += 2) count--
  return count
}

function answerEmpty(request: IncomingMessage, response: ServerResponse, headers: string[]): void {
  if (writeHead(request, response, 204, '', headers)) response.end()
}
