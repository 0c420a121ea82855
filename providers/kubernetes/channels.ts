/**
 * A websocket into a pod, of several channels: the first byte of each message says which one (`v4.channel.k8s.io`).
 * Neither side can end one channel alone: what reads to an end must know it by itself.
 */
import type { Exec } from '@kubernetes/client-node'

/** What the client makes its own websockets by. */
type WebSocketHandler = Exec['handler']
type ChannelSocket = Awaited<ReturnType<WebSocketHandler['connect']>>

export interface PodChannels {
  /** Takes what comes; before it is set, it is kept. */
  listen(onData: (channel: number, data: Buffer) => void): void
  /** Calls back when it is written, or could not be. */
  write(channel: number, data: Buffer, done: (error?: Error) => void): void
  /** Nothing more is read until `resume`, so the other side has to wait. */
  pause(): void
  resume(): void
  readonly closed: Promise<void>
  destroy(): void
}

/** Kept for whom has not listened yet, in bytes: some messages may come before the caller's turn. */
const MAX_EARLY_BYTES = 1_048_576

export async function openChannels(handler: WebSocketHandler, path: string): Promise<PodChannels> {
  let early: [number, Buffer][] = []
  let kept = 0
  let take = (channel: number, data: Buffer): void => {
    kept += data.length
    if (kept <= MAX_EARLY_BYTES) early.push([channel, data])
  }
  const socket = await connectChannelSocket(handler, path, (channel, data) => {
    take(channel, data)
    return true
  })
  // Else an error after the opening would have no listener, and end the process.
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => {
    if (socket.readyState === socket.CLOSED) resolve()
    else socket.once('close', () => resolve())
  })
  return {
    closed,
    listen(onData) {
      take = onData
      for (const [channel, data] of early) onData(channel, data)
      early = []
    },
    write(channel, data, done) {
      if (socket.readyState !== socket.OPEN) return done(new Error('the connection is closed'))
      socket.send(Buffer.concat([Buffer.of(channel), data]), (error) => done(error ?? undefined))
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    destroy: () => socket.terminate(),
  }
}

async function connectChannelSocket(
  handler: WebSocketHandler,
  path: string,
  onMessage: (channel: number, data: Buffer) => boolean,
): Promise<ChannelSocket> {
  try {
    return await handler.connect(path, null, onMessage)
  } catch (event) {
    // The client rejects with the event; the error is in it.
    const { error, message } = event as { error?: Error; message?: string }
    throw error ?? new Error(message ?? 'the connection could not be made')
  }
}
