/** Listening for peers. */
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { deferred } from '../core/deferred.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { parseOptions } from '../core/options.ts'
import { makeSocketPrivate } from '../core/private-files.ts'
import { acceptLink } from './accept.ts'
import type { WireEnds } from './dial.ts'
import { WireLink } from './link.ts'
import type { NamesFor } from './names-for.ts'
import { parseWhere, SERVE_RULES, type WireServeOptions } from './options.ts'

export interface WireServer extends AsyncDisposable {
  readonly host: string
  /** The port that it has, where 0 was asked for. */
  readonly port: number
  /** Path of the unix socket, where it listens on one. */
  readonly path: string | undefined
  /** Links that are up, and known. */
  readonly links: ReadonlySet<WireEnds>
  /** Listens no more, and ends all links, with the reason if there is one. Resolves when they are closed. Idempotent. */
  close(reason?: string): Promise<void>
  /** Resolves when it has been closed. */
  waitClosed(): Promise<void>
}

/**
 * Listens for peers; each link has names of its own if they come from a function.
 * @param where options, `host:port`, or `unix:/path`; 127.0.0.1:3232 unless given, port 0 for any
 * @throws ManyhostError MANYHOST_INVALID_OPTION, also when the address cannot be listened on
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
  /** Not known yet, oldest first. */
  const greeting = new Set<WireLink>()
  const onSocket = (socket: Socket): void => {
    if (all.size >= maxLinks) {
      // Who is slow to say who he is gives way, so that those who say nothing cannot keep out those who would.
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
      // The function that makes the names threw: there is nothing to be hosted.
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
  // TLS that fails concerns that connection alone.
  server.on('tlsClientError', (error: Error) => settings.onError?.(error))
  await listenOn(server, path === undefined ? { host, port } : { path })
  const closed = deferred<void>()
  const address = server.address()
  const close = async (reason?: string): Promise<void> => {
    server.close()
    await Promise.all([...all].map((link) => link.disconnect(reason)))
    // Connections that were released are somebody else's: their ends are not waited for.
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

async function listenOn(
  server: Server,
  address: { host: string; port: number } | { path: string },
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const where = 'path' in address ? address.path : `${address.host}:${address.port}`
      const message = `wire: cannot listen on ${where}: ${describeError(cause)}`
      reject(new ManyhostError('MANYHOST_INVALID_OPTION', message, { cause }))
    })
    server.listen(address, resolve)
  })
  makeSocketPrivate(address)
  server.removeAllListeners('error')
  server.on('error', () => {})
}
