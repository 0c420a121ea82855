/** A peer of bytes: says what it is told to, and keeps what it is answered. */
import { connect, createServer, type Socket } from 'node:net'
import { waitUntil } from '../help.ts'

export class RawPeer {
  readonly socket: Socket
  got = ''
  isEnded = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => (this.got += chunk.toString('latin1')))
    socket.on('end', () => {
      this.isEnded = true
      socket.end()
    })
    socket.on('close', () => (this.isEnded = true))
    socket.on('error', () => {})
  }

  static async to(port: number): Promise<RawPeer> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    await new Promise((take, fail) => socket.once('connect', take).once('error', fail))
    return new RawPeer(socket)
  }

  say(text: string | Buffer): void {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  }

  /** Waits until all of this has come, and takes it. */
  async hears(text: string): Promise<void> {
    await waitUntil(() => this.got.length >= text.length || this.isEnded, `${text} is heard`)
    const heard = this.got.slice(0, text.length)
    if (heard !== text)
      throw new Error(`heard ${JSON.stringify(this.got)} instead of ${JSON.stringify(text)}`)
    this.got = this.got.slice(text.length)
  }

  async ends(): Promise<void> {
    await waitUntil(() => this.isEnded, 'the connection ends')
  }
}

/** A server of bytes, for the first connection that comes. */
export async function rawServer(): Promise<{
  port: number
  peer: Promise<RawPeer>
  close(): void
}> {
  const sockets: Socket[] = []
  const server = createServer({ allowHalfOpen: true })
  const peer = new Promise<RawPeer>((take) => {
    server.on('connection', (socket) => {
      sockets.push(socket)
      take(new RawPeer(socket))
    })
  })
  await new Promise<void>((take) => server.listen(0, '127.0.0.1', take))
  const { port } = server.address() as { port: number }
  return {
    port,
    peer,
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
