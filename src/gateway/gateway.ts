/** The HTTP server in front of a session: any client, any method, streamed both ways. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Cluster } from '../cluster/cluster.ts'
import { prepareBody } from '../dispatch/body.ts'
import type { Sink } from '../dispatch/exchange.ts'
import { requestFacts } from '../dispatch/facts.ts'
import { mayRepeat } from '../dispatch/verdict.ts'
import { asError, ManyhostError } from '../errors.ts'
import type { Session } from '../session.ts'
import { challenge, corsHeaders, isPreflight, preflightHeaders, refusal } from './auth.ts'
import { requestHeaders } from './headers.ts'
import { chunks, declaredLength, tooLarge, WHOLE, whole } from './incoming.ts'
import type { GatewaySettings } from './options.ts'
import { answerable, answerProblem } from './problem.ts'
import { Relay } from './relay.ts'
import { type Route, Routes } from './routes.ts'
import { flaw } from './strict.ts'
import { responseOn, Tunnel } from './upgrade.ts'
import { answerWaiting, hasReady, wantsPage } from './waiting.ts'

/** What a request turned out to be for. */
interface Aim {
  readonly route: Route
  readonly cluster: Cluster
  /** Path and query for the instance. */
  readonly path: string
}

export class Front {
  readonly #session: Session
  readonly #settings: GatewaySettings
  readonly #routes: Routes
  readonly #trusted: ReadonlySet<string>
  /** Services that a waiting page has asked for. */
  readonly #waking = new WeakSet<Cluster>()

  constructor(session: Session, settings: GatewaySettings) {
    this.#session = session
    this.#settings = settings
    this.#routes = new Routes(session, settings.doors)
    this.#trusted = new Set(settings.trustedProxies)
  }

  /** Answers a request; whatever goes wrong is an answer, too. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    // Expect: 100-continue is answered when the body is wanted, which is when an instance has been chosen.
    this.#handle(request, response, () => undefined)
  }

  readonly onContinue = (request: IncomingMessage, response: ServerResponse): void => {
    let asked = false
    this.#handle(request, response, () => {
      if (!asked) response.writeContinue()
      asked = true
    })
  }

  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', () => undefined)
    const response = responseOn(request, socket)
    try {
      const aim = this.#aim(request, response)
      if (!aim) {
        socket.end()
        return
      }
      response.detachSocket(socket as Parameters<ServerResponse['detachSocket']>[0])
      const protocol = request.headers.upgrade as string
      const facts = this.#facts(request, aim, null, protocol)
      const tunnel = new Tunnel(
        request,
        socket,
        head,
        this.#relayOptions(request, aim.route, facts.id),
      )
      tunnel.exchange = aim.cluster.send(facts, tunnel)
    } catch (error) {
      answerProblem(request, response, answerable(asError(error)), { close: true })
      socket.end()
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    try {
      const aim = this.#aim(request, response)
      if (!aim) return
      const length = declaredLength(request)
      if (length === 0) return this.#send(request, response, aim, null)
      if (length !== Infinity && length > this.#settings.bodySize)
        throw tooLarge(this.#settings.bodySize)
      if (length <= WHOLE) void this.#sendWhole(request, response, aim, begin)
      else this.#send(request, response, aim, chunks(request, this.#settings, begin))
    } catch (error) {
      this.#refuse(request, response, asError(error))
    }
  }

  async #sendWhole(
    request: IncomingMessage,
    response: ServerResponse,
    aim: Aim,
    begin: () => void,
  ): Promise<void> {
    try {
      const body = await whole(request, this.#settings, begin)
      this.#send(request, response, aim, body)
    } catch (error) {
      // A client that went away in the middle of its body hears nothing any more.
      if (!response.destroyed) this.#refuse(request, response, asError(error))
    }
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: Error): void {
    answerProblem(request, response, answerable(error), { close: !request.complete })
  }

  #send(request: IncomingMessage, response: ServerResponse, aim: Aim, body: unknown): void {
    const facts = this.#facts(request, aim, body, undefined)
    const relay = new Relay(request, response, this.#relayOptions(request, aim.route, facts.id))
    relay.exchange = aim.cluster.send(facts, relay as Sink)
  }

  #relayOptions(
    request: IncomingMessage,
    { door }: Route,
    id: string,
  ): ConstructorParameters<typeof Relay>[2] {
    return {
      id,
      via: `1.1 ${this.#settings.via}`,
      serverTiming: door.serverTiming ?? false,
      extra: door.cors ? corsHeaders(door.cors, request.headers.origin) : NONE,
    }
  }

  #facts(
    request: IncomingMessage,
    { route, cluster, path }: Aim,
    body: unknown,
    upgrade: string | undefined,
  ): ReturnType<typeof requestFacts> {
    const { method = 'GET', socket } = request
    const client = socket.remoteAddress ?? 'unknown'
    const { resend, replayLimit } = cluster.settings.dispatch
    const keyed = request.headers['idempotency-key'] !== undefined
    return requestFacts({
      method,
      path,
      host: route.host,
      headers: requestHeaders(request.rawHeaders, {
        client,
        proto: 'encrypted' in socket ? 'https' : 'http',
        host: hostOf(request),
        version: request.httpVersion,
        trusted: this.#trusted.has(client),
        name: this.#settings.via,
        keepLength: body !== null,
      }),
      body: prepareBody(body, { replayLimit, keep: mayRepeat(resend, method, keyed) }),
      upgrade,
      routing: NO_ROUTING,
      ids: this.#session.ids,
    })
  }

  /** What a request is for; undefined when it has been answered already. */
  #aim(request: IncomingMessage, response: ServerResponse): Aim | undefined {
    const wrong = request.httpVersionMajor === 1 ? flaw(request as never) : undefined
    if (wrong) {
      const error = new ManyhostError('MANYHOST_BAD_REQUEST', `the request has ${wrong}`)
      answerProblem(request, response, error, { close: true })
      return undefined
    }
    if (request.url === '*') {
      // Asks what the server as a whole can do (RFC 9110 section 9.3.7): that is us, not a service.
      response.writeHead(204, { allow: 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS' }).end()
      return undefined
    }
    const target = targetOf(request)
    const route = this.#routes.find(target.host, target.path)
    if (!route) {
      const known = this.#routes.names().join(', ') || 'none'
      throw new ManyhostError(
        'MANYHOST_UNKNOWN_SERVICE',
        `no service for host ${target.host} and path ${target.path.slice(0, 200)}; known: ${known}`,
      )
    }
    const { door, strip } = route
    const path = strip === 0 ? target.path : stripped(target.path, strip)
    const cluster = this.#session.match(route.origin, path)
    if (!cluster) throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', `no service for path ${path}`)
    if (door.cors && isPreflight(request)) {
      response.writeHead(204, preflightHeaders(door.cors, request)).end()
      return undefined
    }
    const refused = door.auth && refusal(door.auth, request.headers.authorization)
    if (refused) {
      const headers = { 'www-authenticate': challenge(door.auth as NonNullable<typeof door.auth>) }
      answerProblem(request, response, refused, { headers, close: !request.complete })
      return undefined
    }
    if (door.waitingPage && wantsPage(request) && !hasReady(cluster)) {
      this.#wake(request, { route, cluster, path })
      answerWaiting(response, cluster)
      return undefined
    }
    return { route, cluster, path }
  }

  /** One page's own request goes on to wait, so that whoever sizes the service sees that it is wanted. */
  #wake(request: IncomingMessage, aim: Aim): void {
    const { cluster } = aim
    if (this.#waking.has(cluster)) return
    this.#waking.add(cluster)
    const done = (): void => void this.#waking.delete(cluster)
    const nothing = (): void => undefined
    cluster.send(this.#facts(request, aim, null, undefined), {
      onInfo: nothing,
      onHead: nothing,
      onData: nothing,
      onEnd: done,
      onError: done,
      onUpgrade: (_status, _headers, socket) => {
        socket.destroy()
        done()
      },
    })
  }

  close(): void {
    this.#routes.close()
  }
}

const NONE: readonly string[] = []
const NO_ROUTING = {}

function hostOf({ headers }: IncomingMessage): string {
  return (headers[':authority'] as string | undefined) ?? headers.host ?? ''
}

/** Host and path of a target in origin, absolute or asterisk form (RFC 9112 section 3.2). */
function targetOf(request: IncomingMessage): { host: string; path: string } {
  const { url = '/' } = request
  if (url.startsWith('/')) return { host: hostOf(request), path: url }
  if (url === '*') return { host: hostOf(request), path: '*' }
  const absolute = new URL(url)
  return { host: absolute.host, path: absolute.pathname + absolute.search }
}

function stripped(path: string, length: number): string {
  const rest = path.slice(length)
  return rest.startsWith('/') ? rest : `/${rest}`
}
