/** The request path of the gateway: checks a request, finds its service, and sends it to the cluster of the service. */
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

  /** @param isClosing whether connections end with their next response */
  constructor(session: SessionCore, settings: GatewaySettings, isClosing = () => false) {
    this.#session = session
    this.#settings = settings
    this.#routes = new GatewayRoutes(session, settings.routeOptions)
    this.#isTrusted = createTrustCheck(settings.trustedProxies)
    this.#minimumRate = new MinimumRate(settings.bodyRate)
    this.#isClosing = isClosing
    this.#via = `1.1 ${settings.via}`
  }

  /** Handles a request. A failure becomes a response as well. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    this.#onArrival(request, response, ignore)
  }

  /** A client that sent `Expect: 100-continue` gets the 100 once its body is wanted, and not before. */
  readonly onContinue = (request: IncomingMessage, response: ServerResponse): void => {
    this.#onArrival(request, response, () => writeContinue(response))
  }

  #onArrival(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    if (request.httpVersionMajor === 2) {
      if ('stream' in request) {
        // node:http2 emits an error here if the client goes away; node:http emits none.
        request.on('error', ignore)
        // A reset may arrive in the same read as the request.
        if (isClientGone(request, response)) return
      }
      // The request line said HTTP/2.0 over HTTP/1.1. It is refused in the form that such a client can read.
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

  /** Only for requests for which `requestedProtocols` returns a protocol. */
  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', ignore)
    const response = createResponse(request, socket)
    try {
      const match = this.#matchRoute(request, response)
      if (!match) return
      const protocol = requestedProtocols(request) as string
      const input = this.#buildInput(request, match, null, protocol)
      const tunnel = new UpgradeTunnel(
        request,
        response,
        { socket, head, protocol, linger: chooseLinger(protocol, this.#settings.tunnelLinger) },
        this.#relayOptions(match, input.id, request),
      )
      tunnel.exchange = match.cluster.send(input, tunnel)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  /** HTTP/2 only. CONNECT is for WebSockets here (RFC 8441); a plain CONNECT is for forward proxies. */
  readonly onConnect = (request: IncomingMessage, response: ServerResponse): void => {
    request.on('error', ignore)
    if (isClientGone(request, response)) return
    const protocol = connectProtocol(request)
    if (protocol !== 'websocket') {
      response.writeHead(protocol === undefined ? 405 : 501).end()
      return
    }
    try {
      const match = this.#matchRoute(request, response)
      if (!match) return
      const key = createWebSocketKey()
      const input = this.#buildInput(
        request,
        match,
        null,
        protocol,
        withWebSocketKey(request.rawHeaders, key),
      )
      const options = this.#relayOptions(match, input.id, request)
      const linger = chooseLinger(protocol, this.#settings.tunnelLinger)
      const tunnel = new Http2Tunnel(request, response, options, { key, linger })
      tunnel.exchange = match.cluster.send(input, tunnel)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    try {
      const match = this.#matchRoute(request, response)
      if (!match) return
      const length = declaredLength(request)
      if (length === 0) return this.#send(request, response, match, null)
      const limit = this.#settings.bodySize
      if (length !== Infinity && length > limit) throw bodyTooLargeError(limit)
      const requestBody = new RequestBody(request, { limit, minimumRate: this.#minimumRate, begin })
      if (length <= MAX_WHOLE_BODY) void this.#sendWhole(request, response, match, requestBody)
      else this.#send(request, response, match, requestBody)
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  async #sendWhole(
    request: IncomingMessage,
    response: ServerResponse,
    match: RouteMatch,
    requestBody: RequestBody,
  ): Promise<void> {
    try {
      const body = await readWholeBody(requestBody)
      this.#send(request, response, match, body)
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
    if (isClientGone(request, response)) return
    const id = request.headers['x-request-id']
    writeProblem(request, response, toResponseError(error), {
      id: typeof id === 'string' && isRequestId(id) ? id : this.#session.ids.next(),
      headers,
    })
  }

  #send(
    request: IncomingMessage,
    response: ServerResponse,
    match: RouteMatch,
    body: unknown,
  ): void {
    const input = this.#buildInput(request, match, body, undefined)
    const relay = new ResponseRelay(request, response, this.#relayOptions(match, input.id, request))
    relay.exchange = match.cluster.send(input, relay)
  }

  #relayOptions(
    { options }: RouteMatch,
    id: string,
    { headers }: IncomingMessage,
  ): ResponseRelayOptions {
    return {
      id,
      via: this.#via,
      serverTiming: options.serverTiming,
      cors: options.cors && corsHeaders(options.cors, headers.origin),
      isClosing: this.#isClosing,
    }
  }

  #buildInput(
    request: IncomingMessage,
    { route, options, cluster, path, host }: RouteMatch,
    body: unknown,
    upgrade: string | undefined,
    rawHeaders: readonly string[] = request.rawHeaders,
  ): RequestInput {
    const { socket } = request
    // Instances are asked over HTTP/1.1, where an extended CONNECT is a GET with an upgrade.
    const method = request.method === 'CONNECT' ? 'GET' : (request.method ?? 'GET')
    const client = clientAddressOf(socket)
    const hasIdempotencyKey = request.headers['idempotency-key'] !== undefined
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
      body: prepareServiceBody(cluster, body, method, hasIdempotencyKey),
      upgrade,
      routing: options.priorityHeader
        ? { priority: parsePriority(request.headers.priority) }
        : NO_ROUTING,
      ids: this.#session.ids,
    })
  }

  /** The service of a request; undefined if the gateway has responded itself. @throws ManyhostError if it is refused */
  #matchRoute(request: IncomingMessage, response: ServerResponse): RouteMatch | undefined {
    const isHttp1 = request.httpVersionMajor !== 2
    const violation =
      isHttp1 && isForeignProtocol(request)
        ? 'a protocol other than HTTP'
        : findViolation(request as RawRequest)
    if (violation) {
      closeAfterResponse(request, response)
      throw new ManyhostError('MANYHOST_BAD_REQUEST', `the request has ${violation}`)
    }
    if (countHeaderFields(request) > this.#settings.headerCount) {
      closeAfterResponse(request, response)
      const max = `${this.#settings.headerCount} (headerCount)`
      throw new ManyhostError(
        'MANYHOST_TOO_MANY_HEADERS',
        `the request has more header fields than ${max}`,
      )
    }
    if (request.url === '*') {
      // OPTIONS * is about the server as a whole (RFC 9110 section 9.3.7), which is the gateway and not a service.
      answerEmpty(request, response, ['allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'])
      return undefined
    }
    const match = matchRoute(request, this.#routes, this.#session)
    const { options, cluster } = match
    if (options.cors && isPreflight(request)) {
      answerEmpty(request, response, preflightHeaders(options.cors, request))
      return undefined
    }
    const refused = options.auth && checkAuthorization(options.auth, request.headers.authorization)
    if (refused) {
      const headers = [
        'www-authenticate',
        buildChallenge(options.auth as NonNullable<typeof options.auth>),
      ]
      if (options.cors) headers.push(...corsHeaders(options.cors, request.headers.origin))
      this.#refuse(request, response, refused, headers)
      return undefined
    }
    if (options.waitingPage && wantsWaitingPage(request) && !hasReadyInstance(cluster)) {
      this.#wakeUps.sendOnce(cluster, () => this.#buildInput(request, match, null, undefined))
      writeWaitingPage(response, cluster)
      return undefined
    }
    return match
  }

  /** Stops following the session. Requests that are under way end by the old options. */
  close(): void {
    this.#routes.close()
  }
}

const NO_ROUTING = {}

function ignore(): void {}

/** The number of header fields, without the pseudo fields of HTTP/2, which stand for the request line. */
function countHeaderFields({ rawHeaders, httpVersionMajor }: IncomingMessage): number {
  let count = rawHeaders.length / 2
  if (httpVersionMajor !== 2) return count
  for (let index = 0; rawHeaders[index]?.startsWith(':'); index += 2) count--
  return count
}

function answerEmpty(request: IncomingMessage, response: ServerResponse, headers: string[]): void {
  if (writeHead(request, response, 204, '', headers)) response.end()
}
