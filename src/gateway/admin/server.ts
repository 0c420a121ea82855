/** The server of the admin address; for several addresses, a server for each. */

import { createServer, type RequestListener } from 'node:http'
import type { Registry } from 'prom-client'
import { ManyhostError } from '../../core/errors.ts'
import { guardConnections, serverOptions } from '../../core/http/http-server.ts'
import { formatServerUrl } from '../../core/http/server-url.ts'
import { listenOn } from '../../core/listen.ts'
import type { ListenAddress } from '../../core/listen-address.ts'
import { afterUnref } from '../../core/time.ts'
import { version } from '../../core/version.ts'
import type { SessionCore } from '../../session/session.ts'
import { adminHandler } from './handler.ts'
import type { AdminSettings } from './options.ts'
import { serviceRequestHandler } from './service-requests.ts'

/** A session with metrics, as the public `Session` has them. */
export type SessionWithMetrics = SessionCore & { readonly metrics?: Registry }

export interface AdminServer {
  readonly urls: readonly string[]
  /** Gives running responses one second to end; event streams do not end by themselves. Idempotent. */
  close(): Promise<void>
}

/** Request bodies are short; those of mounted handlers have about a megabyte. Each stream of the feed holds a connection. */
const LIMITS = { requestTimeout: 30_000, connections: 2_000 }

/** Milliseconds that running responses may take to end on close. */
const CLOSE_TIMEOUT = 1_000

export interface AdminServerOptions extends AdminSettings {
  /** Further condition of readiness, beside the services. */
  readonly isReady: () => boolean
  /**
   * Handlers for paths by their first segment. They check by themselves who may call, and must end their long responses
   * when their own owner closes.
   */
  readonly mounts?: Readonly<Record<string, RequestListener>>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, also when an address cannot be listened on */
export async function openAdminServer(
  session: SessionWithMetrics,
  { addresses, token, isReady, mounts = {} }: AdminServerOptions,
): Promise<AdminServer> {
  const { metrics } = session
  if (!metrics) {
    const text = 'gateway: admin: the session has no metrics; use the Session of manyhost'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  const tokenOption = token === undefined ? {} : { token }
  const api = adminHandler(session, { ...tokenOption, metrics, version: version(), isReady })
  const handler = serviceRequestHandler(session, { ...tokenOption, otherwise: api })
  const servers = addresses.map(() => {
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
      await listenOn(server, addresses[index] as ListenAddress, 'admin')
    }
  } catch (error) {
    await close()
    throw error
  }
  return { urls: servers.map((server) => formatServerUrl(server, 'http')), close }
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
