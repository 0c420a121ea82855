/**
 * Requests that a client sends behind others which have no answer yet (RFC 9112 section 9.3.2). node:http takes in as
 * many as come; here so many of one connection are with services at a time, the others wait, and when many wait
 * nothing more is read of it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { currentResponse } from '../core/http/node-internals.ts'

/** Requests of one connection at a time that are behind another. */
const MAX_CONCURRENT = 16
/** That wait while it is still read: else nobody would notice that the client goes away. */
const MAX_WAITING_UNPAUSED = 64
/** What one read can bring is fewer; whoever gets there has found a way around the pause. */
const MAX_WAITING = 10_000

const PIPELINE = Symbol('requests behind others')

interface WaitingRequest {
  readonly response: ServerResponse
  readonly begin: () => void
}

interface Pipeline {
  readonly running: Set<ServerResponse>
  readonly waiting: WaitingRequest[]
  isPaused: boolean
}

type PipelinedSocket = Socket & {
  [PIPELINE]?: Pipeline
}

/** Whether other requests of the connection are before it. Asked for each request, and so quick. */
export function isPipelined({ socket }: IncomingMessage, response: ServerResponse): boolean {
  const first = currentResponse(socket)
  return first !== response && first !== undefined
}

/** Begins when it is the request's turn; never when the client is gone by then. */
export function enqueueRequest(
  request: IncomingMessage,
  response: ServerResponse,
  begin: () => void,
): void {
  const socket = request.socket as PipelinedSocket
  socket[PIPELINE] ??= openPipeline(socket)
  const lane = socket[PIPELINE]
  lane.waiting.push({ response, begin })
  if (lane.waiting.length > MAX_WAITING) socket.destroy()
  else {
    lane.isPaused = false
    startNext(socket, lane)
  }
}

function openPipeline(socket: Socket): Pipeline {
  const lane: Pipeline = { running: new Set(), waiting: [], isPaused: false }
  // node:http tells only the first one that its client has gone.
  socket.once('close', () => {
    lane.waiting.length = 0
    for (const response of lane.running) {
      response.destroyed = true
      response.emit('close')
    }
  })
  return lane
}

function startNext(socket: Socket, lane: Pipeline): void {
  const { running: begun, waiting } = lane
  while (begun.size < MAX_CONCURRENT && waiting.length > 0) {
    const { response, begin } = waiting.shift() as WaitingRequest
    begun.add(response)
    response.once('close', () => {
      if (begun.delete(response) && !socket.destroyed) startNext(socket, lane)
    })
    begin()
  }
  if (waiting.length > MAX_WAITING_UNPAUSED) {
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
