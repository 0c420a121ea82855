/** What stands behind the proxies of the gateway's bench. `/bytes/N` gives N bytes, a POST is counted, all else is 'hello'. */
import { createServer } from 'node:http'

const CHUNK = Buffer.alloc(65_536, 'x')
const HELLO = Buffer.from('hello, world')

const server = createServer((req, res) => {
  if (req.method === 'POST') {
    let count = 0
    req.on('data', (chunk) => {
      count += chunk.length
    })
    req.on('end', () => res.end(String(count)))
  } else if (req.url.startsWith('/bytes/')) {
    let left = Number(req.url.slice(7))
    const more = () => {
      while (left > 0) {
        left -= CHUNK.length
        if (!res.write(CHUNK)) return res.once('drain', more)
      }
      res.end()
    }
    more()
  } else {
    res.writeHead(200, { 'content-type': 'text/plain', 'content-length': HELLO.length })
    res.end(HELLO)
  }
})
server.keepAliveTimeout = 0
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
process.on('disconnect', () => process.exit())
