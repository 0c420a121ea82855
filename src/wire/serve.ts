/** Listening for peers. */
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { deferred } from '../core/deferred.ts'
import { asError } from '../core/errors.ts'
import { listenOn } from '../core/listen.ts'
import { parseOptions } from '../core/options.ts'
import { acceptLink } from './accept.ts'
import type { WireEnds } from './dial.ts'
import { WireLink } from './link.ts'
import type { NamesFor } from './names-for.ts'
import { parseWhere, SERVE_RULES, type WireServeOptions } from './options.ts'

export interface WireServer extends AsyncDisposable {
  readonly host: string
  /** The real port, also if 0 was given. */
  readonly port: number
  /** Path of the unix socket, if it listens on one. */
  readonly path: string | undefined
  /** Links that are up, and whose greeting is done. */
  readonly links: ReadonlySet<WireEnds>
  /** Stops listening, and ends all links, with the reason if there is one. Resolves when they are closed. Idempotent. */
  close(reason?: string): Promise<void>
  /** Resolves when the server was closed. */
  waitClosed(): Promise<void>
}

/**
 * Listens for peers.
 * @param where options, `host:port`, or `unix:/path`; by default 127.0.0.1:3232. Port 0 lets the system choose one
 * @param names the same names for all links, or a function that makes the names of each link
 * @throws ManyhostError MANYHOST_INVALID_OPTION, also if it cannot listen on the address
 */
export async function serve(
  where: string | WireServeOptions,
  names: NamesFor,
): Promise<WireServer> {
  const given = parseWhere<WireServeOptions>(where)
  const {
    host = '127.0.0.1',
    port,
    path,
    tls,
    maxLinks,
    ...settings
  } = parseOptions('wire', given, SERVE_RULES)
  const links = new Set<WireEnds>()
  const all = new Set<WireLink>()
  /** Links whose greeting is not done, oldest first. */
  const greeting = new Set<WireLink>()
  const onSocket = (socket: Socket): void => {
    if (all.size >= maxLinks) {
      // The oldest link that has not finished its greeting is closed, so that silent peers cannot keep others out.
      const [oldest] = greeting
      if (!oldest) return void socket.destroy()
      oldest.socket.destroy()
      all.delete(oldest)
      greeting.delete(oldest)
    }
    let link: WireLink
    try {
      link = new WireLink(socket.setNoDelay(true).setKeepAlive(true), settings, names)
    } catch (error) {
      // The function that makes the names threw, so that the link has nothing to host.
      settings.onError?.(asError(error))
      return void socket.destroy()
    }
    all.add(link)
    greeting.add(link)
    acceptLink(link).then(
      (ends) => {
        greeting.delete(link)
        if (link.isUp) links.add(ends)
      },
      (error) => settings.onError?.(error),
    )
    void link.closed.then(() => {
      all.delete(link)
      greeting.delete(link)
      for (const ends of links) if (ends.po === link.po) links.delete(ends)
    })
  }
  const sockets = { allowHalfOpen: true }
  const server: Server = tls
    ? createTlsServer({ handshakeTimeout: settings.handshakeTimeout, ...sockets, ...tls }, onSocket)
    : createServer(sockets, onSocket)
  // A TLS handshake that fails concerns only its own connection.
  server.on('tlsClientError', (error: Error) => settings.onError?.(error))
  await listenOn(server, path === undefined ? { host, port } : { path }, 'wire')
  // An error of one connection, such as too many open files, must not end the process.
  server.on('error', () => {})
  const closed = deferred<void>()
  const address = server.address()
  const close = async (reason?: string): Promise<void> => {
    server.close()
    await Promise.all([...all].map((link) => link.disconnect(reason)))
    // Released connections belong to another protocol now: their end is not waited for.
    closed.resolve()
  }
  return {
    host,
    port: typeof address === 'object' && address ? address.port : 0,
    path,
    links,
    close,
    waitClosed: () => closed.promise,
    [Symbol.asyncDispose]: () => close(),
  }
}
