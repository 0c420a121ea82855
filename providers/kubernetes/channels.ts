/**
 * A websocket into a pod, with several channels: the first byte of each message is the number of the channel
 * (`v4.channel.k8s.io`). Neither side can end one channel alone, so a reader must know the end of its data by itself.
 */
import type { Exec } from '@kubernetes/client-node'

/** The part of the client that makes its websockets. */
type WebSocketHandler = Exec['handler']
type ChannelSocket = Awaited<ReturnType<WebSocketHandler['connect']>>

export interface PodChannels {
  /** Sets the receiver of all data. Data that came before is kept for it. */
  listen(onData: (channel: number, data: Buffer) => void): void
  /** Calls back when the data was written, or could not be. */
  write(channel: number, data: Buffer, done: (error?: Error) => void): void
  /** Reads nothing more until `resume`, so that the other side waits. */
  pause(): void
  resume(): void
  readonly closed: Promise<void>
  destroy(): void
}

/** Data that is kept until `listen` is called, in bytes: some messages may come before the turn of the caller. */
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
  // Without a listener, an error after the opening would end the process.
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
    // The client rejects with an event that holds the error.
    const { error, message } = event as { error?: Error; message?: string }
    throw error ?? new Error(message ?? 'the connection could not be made')
  }
}
