// A server as a service may have one: listens where it is told, and does what a path asks for.
//   /env  its environment    /exit?3  exits with 3    /hang  never answers    anything else: its pid
// With --deaf it ignores SIGTERM.
import { createServer } from 'node:http'

if (process.argv.includes('--deaf')) process.on('SIGTERM', () => {})

const server = createServer((request, response) => {
  const [path, query] = request.url.split('?')
  if (path === '/hang') return
  if (path === '/exit') process.exit(Number(query))
  response.end(path === '/env' ? JSON.stringify(process.env) : String(process.pid))
})

const { HOST, PORT, SOCKET_PATH } = process.env
const where = SOCKET_PATH ? { path: SOCKET_PATH } : { host: HOST, port: Number(PORT) }
server.listen(where, () => {
  console.log('listens')
  console.error('no warnings')
})
