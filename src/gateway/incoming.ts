/** A client's body on its way in: bounded in size, and held to a least pace. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../errors.ts'
import { every, now, type Timer } from '../time.ts'

export interface BodyLimits {
  /** Bytes. */
  readonly bodySize: number
  /** Least bytes a second, after a while of grace; 0 for none. */
  readonly bodyRate: number
}

/** A body of known length up to this is taken in whole before an instance is asked: no slow client holds a place. */
export const WHOLE = 65_536

/** Milliseconds in which nothing need come. */
const GRACE = 10_000
const CHECK = 1_000

/** Whether a request has a body, by RFC 9112 section 6.3. */
export function declaredLength(request: IncomingMessage): number {
  const { headers } = request
  const length = headers['content-length']
  if (length !== undefined) return Number(length)
  return headers['transfer-encoding'] !== undefined || isOpenStream(request) ? Infinity : 0
}

/** HTTP/2 has no transfer coding: a stream that is still open has a body of unknown length. */
function isOpenStream(request: IncomingMessage): boolean {
  return (
    request.httpVersionMajor === 2 &&
    !request.complete &&
    !request.readableEnded &&
    (request as { stream?: { endAfterHeaders?: boolean } }).stream?.endAfterHeaders === false
  )
}

/** The chunks of a body. What is left of it when nobody reads on is thrown away, not the connection. */
export async function* chunks(
  request: IncomingMessage,
  limits: BodyLimits,
  begin: () => void,
): AsyncGenerator<Buffer> {
  begin()
  const watch = watchPace(request, limits)
  let size = 0
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length
      if (size > limits.bodySize) throw tooLarge(limits.bodySize)
      yield chunk as Buffer
    }
  } catch (error) {
    throw watch.slow ?? error
  } finally {
    watch.timer?.clear()
  }
}

/** A whole small body. */
export async function whole(
  request: IncomingMessage,
  limits: BodyLimits,
  begin: () => void,
): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const chunk of chunks(request, limits, begin)) parts.push(chunk)
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
}

/** Ends a body that comes too slowly, as long as we wait for it rather than it for us. */
function watchPace(
  request: IncomingMessage,
  { bodyRate }: BodyLimits,
): { timer: Timer | undefined; slow: ManyhostError | undefined } {
  const watch: { timer: Timer | undefined; slow: ManyhostError | undefined } = {
    timer: undefined,
    slow: undefined,
  }
  if (bodyRate === 0) return watch
  let begun = now()
  let before = request.socket.bytesRead
  watch.timer = every(CHECK, () => {
    const read = request.socket.bytesRead
    if (request.isPaused() || request.readableLength > 0) begun = now()
    else if (read - before >= (bodyRate * CHECK) / 1_000) begun = now()
    before = read
    if (now() - begun < GRACE) return
    watch.slow = new ManyhostError(
      'MANYHOST_BODY_TOO_SLOW',
      `the request's body came slower than ${bodyRate} bytes a second for ${GRACE / 1_000} s`,
    )
    watch.timer?.clear()
    request.destroy(watch.slow)
  })
  return watch
}

export function tooLarge(limit: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_TOO_LARGE',
    `the request's body is larger than ${limit} bytes (bodySize)`,
  )
}
