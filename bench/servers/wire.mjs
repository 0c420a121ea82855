/** Hosts conversations, as the other end of scenario `wire`; tells its port when it listens. */
import { createServer } from 'node:net'
import { serve } from 'manyhost/wire'

const server = await serve({ port: 0 }, (_po, ho) => ({
  echo: (value) => value,
  note() {},
  async put(size) {
    let bytes = 0
    for await (const piece of ho.co.recvStream(size)) bytes += piece.length
    return bytes
  },
  async get(size) {
    const co = ho.co
    await co.startSend()
    await co.sendData(Buffer.alloc(size, 'x'))
  },
}))
const plain = createServer((socket) => socket.setNoDelay(true).pipe(socket))
await new Promise((resolve) => plain.listen(0, '127.0.0.1', resolve))
process.send({ ports: [server.port, plain.address().port] })
