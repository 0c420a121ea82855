/**
 * The undocumented fields of Node's http, net and tls modules that manyhost uses, in this file only. Each function does
 * without its field where a Node version no longer has it. test/core/node-internals.test.ts has a test per field, which fails
 * in that case.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

interface HttpSocket {
  /** The response that is being written to the connection. Further responses of the connection wait behind it. */
  readonly _httpMessage?: ServerResponse | null
}

/** The response that is being written to a server's connection; undefined while the connection is idle. */
export function currentResponse(socket: Duplex): ServerResponse | undefined {
  return (socket as HttpSocket)._httpMessage ?? undefined
}

type BufferedHead = ServerResponse & { _header?: unknown; readonly _headerSent?: unknown }

/**
 * Appends a body to a response head that was set with `writeHead` and is not sent yet, so that both leave in one write.
 * @param text the whole body, one character a byte
 * @returns false if that is not possible; the response is then unchanged
 */
export function appendToHead(given: ServerResponse, text: string): boolean {
  const response: BufferedHead = given
  const { _header: head } = response
  if (typeof head !== 'string' || response._headerSent !== false) return false
  if (response.chunkedEncoding !== false || !head.endsWith('\r\n\r\n')) return false
  response._header = head + text
  return true
}

/**
 * Writes bytes to the connection of a response, before its head and without framing, as an informational response needs it.
 * Of Node's own methods only `writeEarlyHints` writes such a response, and it takes neither another status nor all fields.
 * @param text one character a byte
 */
export function writeRaw(response: ServerResponse, text: string): void {
  const { _writeRaw } = response as { _writeRaw?(text: string, encoding: 'latin1'): unknown }
  _writeRaw?.call(response, text, 'latin1')
}

/** The bytes that the parser of a server's connection is reading at the moment; undefined outside of its events. */
export function currentParserBytes({ socket }: IncomingMessage): Buffer | undefined {
  const { parser } = socket as { parser?: { getCurrentBuffer?(): Buffer } | null }
  return parser?.getCurrentBuffer?.()
}

/** Lets clients of a server close their half of the connection and still get their responses. */
export function allowHalfOpenHttp(server: Server): void {
  Reflect.set(server, 'httpAllowHalfOpen', true)
}

/** The connection below a TLS connection; the socket itself where there is no TLS. */
export function transportOf(socket: Duplex): Duplex {
  return (socket as { _parent?: Duplex | null })._parent ?? socket
}

interface SocketHandle {
  readonly bytesWritten?: number
  readonly writeQueueSize?: number
  /** The handle of the connection below, for TLS. */
  readonly _parent?: SocketHandle | null
}

/** Bytes that were written to a connection, as libuv counts them. */
export interface WriteProgress {
  /** Bytes that libuv was given. */
  readonly bytesWritten: number
  /** Bytes of these that the kernel has not taken yet. */
  readonly writeQueueSize: number
}

/** @returns undefined for a socket that is closed, or is not a connection of libuv */
export function writeProgressOf(socket: Socket): WriteProgress | undefined {
  const { _handle } = socket as { _handle?: SocketHandle | null }
  const handle = _handle?._parent ?? _handle
  const { bytesWritten, writeQueueSize } = handle ?? {}
  if (bytesWritten === undefined || writeQueueSize === undefined) return undefined
  return { bytesWritten, writeQueueSize }
}

/** The callback of one write of a stream. */
export type WriteCallback = (error?: Error | null) => void

/**
 * Replaces the callback of each later write of a socket. (`_write` and `_writev` are documented for subclasses; a socket of
 * node:net can only be changed in place.)
 */
export function interceptWrites(
  socket: Duplex,
  replace: (callback: WriteCallback) => WriteCallback,
): void {
  const { _write, _writev } = socket
  socket._write = (chunk, encoding, callback) => {
    _write.call(socket, chunk, encoding, replace(callback))
  }
  if (!_writev) return
  socket._writev = (chunks, callback) => {
    _writev.call(socket, chunks, replace(callback))
  }
}
