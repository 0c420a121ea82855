/** The request path of the gateway: checks, finds the service, and hands the request to its cluster. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { prepareServiceBody } from '../cluster/request-body.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import type { RequestInput } from '../dispatch/exchange.ts'
import { buildRequestInput } from '../dispatch/request-input.ts'
import type { SessionCore } from '../session/session.ts'
import {
  buildChallenge,
  checkAuthorization,
  corsHeaders,
  isPreflight,
  preflightHeaders,
} from './auth.ts'
import { trackLastResponse } from './connection.ts'
import {
  connectProtocol,
  createWebSocketKey,
  Http2Tunnel,
  withWebSocketKey,
} from './extended-connect.ts'
import { MinimumRate } from './minimum-rate.ts'
import type { GatewaySettings } from './options.ts'
import { enqueueRequest, isPipelined } from './pipeline.ts'
import { parsePriority } from './priority.ts'
import { toResponseError, writeProblem } from './problem.ts'
import { isForeignProtocol, requestedProtocols } from './protocols.ts'
import {
  bodyTooLargeError,
  declaredLength,
  MAX_WHOLE_BODY,
  RequestBody,
  readWholeBody,
} from './request-body.ts'
import { isRequestId, requestHeaders } from './request-headers.ts'
import { findViolation, type RawRequest } from './request-violations.ts'
import { ResponseRelay, type ResponseRelayOptions } from './response-relay.ts'
import { closeAfterResponse, isClientGone, writeContinue, writeHead } from './response-writer.ts'
import { matchRoute, type RouteMatch } from './route-match.ts'
import { GatewayRoutes } from './routes.ts'
import { clientAddressOf, createTrustCheck } from './trust.ts'
import { chooseLinger } from './tunnel.ts'
import { createResponse, UpgradeTunnel } from './upgrade.ts'
import {
  hasReadyInstance,
  WakeUpRequests,
  wantsWaitingPage,
  writeWaitingPage,
} from './waiting-page.ts'

export class RequestHandler {
  readonly #session: SessionCore
  readonly #settings: GatewaySettings
  readonly #routes: GatewayRoutes
  readonly #isTrusted: (client: string) => boolean
  readonly #minimumRate: MinimumRate
  readonly #via: string
  readonly #wakeUps = new WakeUpRequests()
  readonly #isClosing: () => boolean

  /** @param isClosing whether connections end with the answers that are under way */
  constructor(session: SessionCore, settings: GatewaySettings, isClosing = () => false) {
    this.#session = session
    this.#settings = settings
    this.#routes = new GatewayRoutes(session, settings.routeOptions)
    this.#isTrusted = createTrustCheck(settings.trustedProxies)
    this.#minimumRate = new MinimumRate(settings.bodyRate)
    this.#isClosing = isClosing
    this.#via = `1.1 ${settings.via}`
  }

  /** Answers a request; whatever goes wrong is an answer, too. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    this.#onArrival(request, response, ignore)
  }

  /** A client that asks before it sends its body is told to go on when the body is wanted, and not before. */
  readonly onContinue = (request: IncomingMessage, response: ServerResponse): void => {
    this.#onArrival(request, response, () => writeContinue(response))
  }

  #onArrival(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    if (request.httpVersionMajor === 2) {
      if ('stream' in request) {
        // node:http2 reports there what node:http does not report at all: that the client went away.
        request.on('error', ignore)
        // Not if it has gone already: a reset may come in one read with the request.
        if (isClientGone(request, response)) return
      }
      // A line that says HTTP/2.0 makes no HTTP/2. It is refused in the form that its client can read.
      else request.httpVersionMajor = 1
    }
    if (request.httpVersionMajor !== 2) {
      trackLastResponse(request.socket, response)
      if (isPipelined(request, response)) {
        return enqueueRequest(request, response, () => this.#handle(request, response, begin))
      }
    }
    this.#handle(request, response, begin)
  }

  /** Only for requests that `tunnelOf` knows a protocol of. */
  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', ignore)
    const response = createResponse(request, socket)
    try {
      const aim = this.#matchRoute(request, response)
      if (!aim) return
      const protocol = requestedProtocols(request) as string
      const facts = this.#buildInput(request, aim, null, protocol)
      const tunnel = new UpgradeTunnel(
        request,
        response,
        { socket, head, protocol, linger: chooseLinger(protocol, this.#settings.tunnelLinger) },
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
    if (isClientGone(request, response)) return
    const protocol = connectProtocol(request)
    if (protocol !== 'websocket') {
      response.writeHead(protocol === undefined ? 405 : 501).end()
      return
    }
    try {
      const aim = this.#matchRoute(request, response)
      if (!aim) return
      const key = createWebSocketKey()
      const facts = this.#buildInput(
        request,
        aim,
        null,
        protocol,
        withWebSocketKey(request.rawHeaders, key),
      )
      const options = this.#relayOptions(aim, facts.id, request)
      const linger = chooseLinger(protocol, this.#settings.tunnelLinger)
      const tunnel = new Http2Tunnel(request, response, options, { key, linger })
      tunnel.exchange = aim.cluster.send(facts, tunnel)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    try {
      const aim = this.#matchRoute(request, response)
      if (!aim) return
      const length = declaredLength(request)
      if (length === 0) return this.#send(request, response, aim, null)
      const limit = this.#settings.bodySize
      if (length !== Infinity && length > limit) throw bodyTooLargeError(limit)
      const inflow = new RequestBody(request, { limit, minimumRate: this.#minimumRate, begin })
      if (length <= MAX_WHOLE_BODY) void this.#sendWhole(request, response, aim, inflow)
      else this.#send(request, response, aim, inflow)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  async #sendWhole(
    request: IncomingMessage,
    response: ServerResponse,
    aim: RouteMatch,
    inflow: RequestBody,
  ): Promise<void> {
    try {
      const body = await readWholeBody(inflow)
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
    if (isClientGone(request, response)) return
    const id = request.headers['x-request-id']
    writeProblem(request, response, toResponseError(error), {
      id: typeof id === 'string' && isRequestId(id) ? id : this.#session.ids.next(),
      headers,
    })
  }

  #send(request: IncomingMessage, response: ServerResponse, aim: RouteMatch, body: unknown): void {
    const facts = this.#buildInput(request, aim, body, undefined)
    const relay = new ResponseRelay(request, response, this.#relayOptions(aim, facts.id, request))
    relay.exchange = aim.cluster.send(facts, relay)
  }

  #relayOptions(
    { options: door }: RouteMatch,
    id: string,
    { headers }: IncomingMessage,
  ): ResponseRelayOptions {
    return {
      id,
      via: this.#via,
      serverTiming: door.serverTiming,
      cors: door.cors && corsHeaders(door.cors, headers.origin),
      isClosing: this.#isClosing,
    }
  }

  #buildInput(
    request: IncomingMessage,
    { route, options: door, cluster, path, host }: RouteMatch,
    body: unknown,
    upgrade: string | undefined,
    rawHeaders: readonly string[] = request.rawHeaders,
  ): RequestInput {
    const { socket } = request
    // An extended CONNECT is an upgrade where there is no HTTP/2.
    const method = request.method === 'CONNECT' ? 'GET' : (request.method ?? 'GET')
    const client = clientAddressOf(socket)
    const keyed = request.headers['idempotency-key'] !== undefined
    return buildRequestInput({
      method,
      path,
      host: route.host,
      headers: requestHeaders(rawHeaders, {
        client,
        proto: 'encrypted' in socket ? 'https' : 'http',
        host,
        version: request.httpVersion,
        isTrustedProxy: this.#isTrusted(client),
        addForwarded: this.#settings.forwarded,
        viaName: this.#settings.via,
        strippedPrefix: route.strip,
        keepLength: body !== null,
      }),
      body: prepareServiceBody(cluster, body, method, keyed),
      upgrade,
      routing: door.priorityHeader
        ? { priority: parsePriority(request.headers.priority) }
        : NO_ROUTING,
      ids: this.#session.ids,
    })
  }

  /** What a request is for; undefined when it has been answered already. */
  #matchRoute(request: IncomingMessage, response: ServerResponse): RouteMatch | undefined {
    const isOne = request.httpVersionMajor !== 2
    const wrong =
      isOne && isForeignProtocol(request)
        ? 'a protocol other than HTTP'
        : findViolation(request as RawRequest)
    if (wrong) {
      closeAfterResponse(request, response)
      throw new ManyhostError('MANYHOST_BAD_REQUEST', `the request has ${wrong}`)
    }
    if (countHeaderFields(request) > this.#settings.headerCount) {
      closeAfterResponse(request, response)
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
    const aim = matchRoute(request, this.#routes, this.#session)
    const { options: door, cluster } = aim
    if (door.cors && isPreflight(request)) {
      answerEmpty(request, response, preflightHeaders(door.cors, request))
      return undefined
    }
    const refused = door.auth && checkAuthorization(door.auth, request.headers.authorization)
    if (refused) {
      const headers = [
        'www-authenticate',
        buildChallenge(door.auth as NonNullable<typeof door.auth>),
      ]
      if (door.cors) headers.push(...corsHeaders(door.cors, request.headers.origin))
      this.#refuse(request, response, refused, headers)
      return undefined
    }
    if (door.waitingPage && wantsWaitingPage(request) && !hasReadyInstance(cluster)) {
      this.#wakeUps.sendOnce(cluster, () => this.#buildInput(request, aim, null, undefined))
      writeWaitingPage(response, cluster)
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
function countHeaderFields({ rawHeaders, httpVersionMajor }: IncomingMessage): number {
  let count = rawHeaders.length / 2
  if (httpVersionMajor !== 2) return count
  for (let index = 0; rawHeaders[index]?.startsWith(':'); index += 2) count--
  return count
}

function answerEmpty(request: IncomingMessage, response: ServerResponse, headers: string[]): void {
  if (writeHead(request, response, 204, '', headers)) response.end()
}
