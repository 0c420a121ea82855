/** The admin address: a server, or several with the same answers. */
import { createServer, type RequestListener } from 'node:http'
import type { Registry } from 'prom-client'
import { ManyhostError } from '../../core/errors.ts'
import { guardConnections, serverOptions } from '../../core/http/http-server.ts'
import type { ListenAddress } from '../../core/listen-address.ts'
import { afterUnref } from '../../core/time.ts'
import { version } from '../../core/version.ts'
import type { SessionCore } from '../../session/session.ts'
import { listenOn, serverUrl } from '../listening.ts'
import { adminHandler } from './handler.ts'
import type { AdminSettings } from './options.ts'
import { serviceRequestHandler } from './service-requests.ts'

/** A session that counts, as the public one does. */
export type SessionWithMetrics = SessionCore & { readonly metrics?: Registry }

export interface AdminServer {
  readonly urls: readonly string[]
  /** Lets answers end for a second; event streams do not end by themselves. Idempotent. */
  close(): Promise<void>
}

/** Bodies of its calls are short, those of what is mounted of a megabyte or so. Streams of the feed hold a connection each. */
const LIMITS = { requestTimeout: 30_000, connections: 2_000 }

/** How long answers may take to end when it closes, in ms. */
const CLOSE_TIMEOUT = 1_000

export interface AdminServerOptions extends AdminSettings {
  /** What readiness needs besides the services'. */
  readonly isReady: () => boolean
  /**
   * What others answer here, by the first part of the path: they check for themselves who may ask. Each must end its
   * long answers when its own owner closes.
   */
  readonly mounts?: Readonly<Record<string, RequestListener>>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, also when an address cannot be listened on */
export async function openAdminServer(
  session: SessionWithMetrics,
  { addresses: where, token, isReady, mounts = {} }: AdminServerOptions,
): Promise<AdminServer> {
  const { metrics } = session
  if (!metrics) {
    const text = 'gateway: admin: the session has no metrics; take the Session of manyhost'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  const secret = token === undefined ? {} : { token }
  const api = adminHandler(session, { ...secret, metrics, version: version(), isReady })
  const handler = serviceRequestHandler(session, { ...secret, otherwise: api })
  const servers = where.map(() => {
    const server = createServer(serverOptions(LIMITS), withMounts(mounts, handler))
    guardConnections(server, LIMITS)
    return server
  })
  let closing: Promise<void> | undefined
  const end = async (): Promise<void> => {
    const timer = afterUnref(CLOSE_TIMEOUT, () => {
      for (const server of servers) server.closeAllConnections()
    })
    await Promise.all(
      servers.map((server) => {
        const closed = new Promise((resolve) => server.close(resolve))
        server.closeIdleConnections()
        return closed
      }),
    )
    timer.clear()
    handler.close()
    api.close()
  }
  const close = (): Promise<void> => {
    closing ??= end()
    return closing
  }
  try {
    for (const [index, server] of servers.entries()) {
      await listenOn(server, where[index] as ListenAddress, 'admin')
    }
  } catch (error) {
    await close()
    throw error
  }
  return { urls: servers.map((server) => serverUrl(server, false)), close }
}

function withMounts(
  mounts: Readonly<Record<string, RequestListener>>,
  otherwise: RequestListener,
): RequestListener {
  const known = new Map(Object.entries(mounts))
  if (known.size === 0) return otherwise
  return (request, response) => {
    const [, first = ''] = /^\/([^/?]*)/.exec(request.url ?? '') ?? []
    const listener = known.get(first) ?? otherwise
    listener(request, response)
  }
}
