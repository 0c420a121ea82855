/**
 * Requests that a client sends behind others which have no answer yet (RFC 9112 section 9.3.2). node:http takes in as
 * many as come; here so many of one connection are with services at a time, the others wait, and when many wait
 * nothing more is read of it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests of one connection at a time that are behind another. */
const AT_ONCE = 16
/** That wait while it is still read: else nobody would notice that the client goes away. */
const AHEAD = 64
/** What one read can bring is fewer; whoever gets there has found a way around the pause. */
const MOST = 10_000

const LANE = Symbol('requests behind others')

interface Waiting {
  readonly response: ServerResponse
  readonly begin: () => void
}

interface Lane {
  readonly begun: Set<ServerResponse>
  readonly waiting: Waiting[]
  isPaused: boolean
}

type Marked = Socket & {
  [LANE]?: Lane
  /** node:http: the answer that is being written. */
  _httpMessage?: ServerResponse | null
}

/** Whether other requests of the connection are before it. Asked for each request, and so quick. */
export function isBehind({ socket }: IncomingMessage, response: ServerResponse): boolean {
  const first = (socket as Marked)._httpMessage
  return first !== response && first !== undefined && first !== null
}

/** Begins when it is the request's turn; never when the client is gone by then. */
export function inTurn(
  request: IncomingMessage,
  response: ServerResponse,
  begin: () => void,
): void {
  const socket = request.socket as Marked
  socket[LANE] ??= open(socket)
  const lane = socket[LANE]
  lane.waiting.push({ response, begin })
  if (lane.waiting.length > MOST) socket.destroy()
  else {
    lane.isPaused = false
    goOn(socket, lane)
  }
}

function open(socket: Socket): Lane {
  const lane: Lane = { begun: new Set(), waiting: [], isPaused: false }
  // node:http tells only the first one that its client has gone.
  socket.once('close', () => {
    lane.waiting.length = 0
    for (const response of lane.begun) {
      response.destroyed = true
      response.emit('close')
    }
  })
  return lane
}

function goOn(socket: Socket, lane: Lane): void {
  const { begun, waiting } = lane
  while (begun.size < AT_ONCE && waiting.length > 0) {
    const { response, begin } = waiting.shift() as Waiting
    begun.add(response)
    response.once('close', () => {
      if (begun.delete(response) && !socket.destroyed) goOn(socket, lane)
    })
    begin()
  }
  if (waiting.length > AHEAD) {
    if (lane.isPaused) return
    lane.isPaused = true
    // Behind what was read: node:http reads on after each request that it has parsed.
    process.nextTick(() => {
      if (lane.isPaused) socket.pause()
    })
  } else if (lane.isPaused) {
    lane.isPaused = false
    socket.resume()
  }
}
