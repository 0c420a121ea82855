// A server that answers before it has read the request, and then goes. It listens where it is told: HOST and PORT, or SOCKET_PATH.
// The path says how: /<end>/<form>. <end>: `fin` (FIN, then a reset, as the kernel sends one for what was not read), `late`
// (the same, with 20 ms between), `reset` (a reset alone), `stays` (nothing). <form>: `length`, `kept` (a length, and no
// `Connection: close`), `chunked`, `none` (its end is the end of the answer).
// /count answers how often each other path was asked for, as JSON, and begins anew.
import { createServer } from 'node:net'

const { HOST, PORT, SOCKET_PATH } = process.env
const HEADS = {
  length: 'HTTP/1.1 413 L\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno',
  kept: 'HTTP/1.1 413 L\r\ncontent-length: 2\r\n\r\nno',
  chunked: 'HTTP/1.1 413 L\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n',
  none: 'HTTP/1.0 413 L\r\n\r\nno',
}
const ENDS = {
  fin: (socket) => socket.end(() => socket.destroy()),
  late: (socket) => socket.end(() => setTimeout(() => socket.destroy(), 20)),
  // On a unix socket, to close with unread bytes is the reset.
  reset: (socket) => (SOCKET_PATH ? socket.destroy() : socket.resetAndDestroy()),
  stays: () => undefined,
}
let counts = {}

const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => undefined)
  const onReadable = () => {
    // The head, and as much of the body as came with it. The rest stays unread.
    const chunk = socket.read(64) ?? socket.read()
    if (chunk === null) return
    socket.off('readable', onReadable)
    const [, path = '/'] = chunk.toString('latin1').split(' ')
    if (path === '/count') {
      socket.resume()
      const text = JSON.stringify(counts)
      counts = {}
      socket.end(
        `HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
      )
      return
    }
    counts[path] = (counts[path] ?? 0) + 1
    const [, end, form] = path.split('/')
    socket.write(HEADS[form], () => ENDS[end](socket))
  }
  socket.on('readable', onReadable)
})
const onListening = () => {
  const address = server.address()
  console.log(typeof address === 'string' ? `unix:${address}` : `http://${HOST}:${address.port}`)
}
if (SOCKET_PATH) server.listen(SOCKET_PATH, onListening)
else server.listen(Number(PORT), HOST, onListening)
