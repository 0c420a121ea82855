// What is hard to pass on: endless streams, upgrades, ends of all kinds. Paths:
//   /echo  the body as it comes    /stream/N  N chunks, 5 ms apart    /close  `Connection: close`    /unlengthed  ended by
//   the end of the connection    /cut  the same, but reset in the middle    /big/N  N bytes    /pid
// An upgrade echoes whatever comes, and answers `bye` to the client's end.
import { createServer } from 'node:http'
import { createServer as createRaw } from 'node:net'

const { HOST, PORT } = process.env
if (process.argv[2] === 'raw') {
  // Not of HTTP's liking: an answer without a length, which the end of the connection ends.
  createRaw({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    socket.once('data', (chunk) => {
      const path = String(chunk).split(' ')[1]
      if (path === '/pid') {
        const pid = String(process.pid)
        return socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${pid.length}\r\n\r\n${pid}`)
      }
      socket.write('HTTP/1.1 200 OK\r\n\r\nthe first half')
      if (path === '/cut') setTimeout(() => socket.resetAndDestroy(), 50)
      else if (path === '/unlengthed') setTimeout(() => socket.end(', the second half'), 50)
    })
  }).listen(Number(PORT), HOST)
} else {
  const server = createServer((request, response) => {
    const [, name, argument] = request.url.split('/')
    if (name === 'echo') return request.pipe(response)
    if (name === 'pid') return response.end(String(process.pid))
    if (name === 'close') return response.setHeader('Connection', 'close').end('closed')
    if (name === 'big') return response.end(Buffer.alloc(Number(argument), 'x'))
    let left = Number(argument)
    const timer = setInterval(() => {
      response.write(`${left}\n`)
      if (--left <= 0) {
        clearInterval(timer)
        response.end()
      }
    }, 5)
  })
  server.on('upgrade', (_, socket, head) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n')
    if (head.length > 0) socket.write(head)
    socket.on('data', (chunk) => socket.write(chunk))
    socket.on('end', () => socket.end('bye'))
    socket.on('error', () => {})
  })
  server.listen(Number(PORT), HOST)
}
