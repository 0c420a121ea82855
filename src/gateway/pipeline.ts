/**
 * Pipelined requests: requests that a client sends before it has its earlier responses (RFC 9112 section 9.3.2).
 * node:http would take in as many as arrive. Here at most MAX_CONCURRENT of one connection are with services at a time, the
 * others wait, and if more than MAX_WAITING_UNPAUSED wait, the connection is not read.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { currentResponse } from '../core/http/node-internals.ts'

/** Requests of one connection that are with services, beside the first one. */
const MAX_CONCURRENT = 16
/** Up to this many waiting requests the connection is still read: a paused one does not notice that its client goes away. */
const MAX_WAITING_UNPAUSED = 64
/** A single read cannot bring this many requests, so reaching it means that the pause was bypassed. */
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

/** Whether earlier requests of the connection have no response yet. Called for each request, so it must be cheap. */
export function isPipelined({ socket }: IncomingMessage, response: ServerResponse): boolean {
  const first = currentResponse(socket)
  return first !== response && first !== undefined
}

/** Calls `begin` when it is the turn of the request; never if the client has gone by then. */
export function enqueueRequest(
  request: IncomingMessage,
  response: ServerResponse,
  begin: () => void,
): void {
  const socket = request.socket as PipelinedSocket
  socket[PIPELINE] ??= openPipeline(socket)
  const pipeline = socket[PIPELINE]
  pipeline.waiting.push({ response, begin })
  if (pipeline.waiting.length > MAX_WAITING) socket.destroy()
  else {
    pipeline.isPaused = false
    startNext(socket, pipeline)
  }
}

function openPipeline(socket: Socket): Pipeline {
  const pipeline: Pipeline = { running: new Set(), waiting: [], isPaused: false }
  // node:http emits 'close' only on the first response when the client goes away.
  socket.once('close', () => {
    pipeline.waiting.length = 0
    for (const response of pipeline.running) {
      response.destroyed = true
      response.emit('close')
    }
  })
  return pipeline
}

function startNext(socket: Socket, pipeline: Pipeline): void {
  const { running, waiting } = pipeline
  while (running.size < MAX_CONCURRENT && waiting.length > 0) {
    const { response, begin } = waiting.shift() as WaitingRequest
    running.add(response)
    response.once('close', () => {
      if (running.delete(response) && !socket.destroyed) startNext(socket, pipeline)
    })
    begin()
  }
  if (waiting.length > MAX_WAITING_UNPAUSED) {
    if (pipeline.isPaused) return
    pipeline.isPaused = true
    // After the current read: node:http resumes the socket after each request that it has parsed.
    process.nextTick(() => {
      if (pipeline.isPaused) socket.pause()
    })
  } else if (pipeline.isPaused) {
    pipeline.isPaused = false
    socket.resume()
  }
}
