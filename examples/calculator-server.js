// A calculator that speaks HTTP: GET /add/7/8 answers 15. It listens where HOST and PORT say.
import { createServer } from 'node:http'

const operations = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
}

const server = createServer((request, response) => {
  const [, name, a, b] = (request.url ?? '').split('/')
  const operation = operations[name ?? '']
  if (name === 'health') return response.end('ok')
  if (!operation) return response.writeHead(404).end(`no such operation: ${name}\n`)
  // Work takes time: some of it here, so that there is something to spread.
  setTimeout(() => response.end(String(operation(Number(a), Number(b)))), 20)
})

const { HOST = '127.0.0.1', PORT = '8000' } = process.env
server.listen(Number(PORT), HOST, () => console.log(`calculator on ${HOST}:${PORT}`))
