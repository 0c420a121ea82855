// The server that every provider is tried with: no dependency, one file, so that it fits in any image.
//   /env  its environment    /cwd  its folder    /exit?3  exits with 3    /hang  never answers    /slow?50  after 50 ms
//   /eat  takes memory until somebody stops it    /labels, anything else: its pid
// Arguments: --deaf ignores SIGTERM, --fail=3 says why and exits with 3 before it listens, --late=500 listens later.
import { createServer } from 'node:http'

const args = process.argv.slice(2)
const number = (name) => Number(args.find((arg) => arg.startsWith(`${name}=`))?.split('=')[1] ?? 0)

process.on('SIGTERM', () => {
  console.log('asked to stop')
  if (!args.includes('--deaf')) process.exit(0)
})

if (number('--fail')) {
  console.log('looks for its data')
  console.error('no data at all')
  process.exit(number('--fail'))
}

const kept = []
function eat() {
  // Written to: memory that is only asked for is not taken.
  kept.push(Buffer.alloc(8_388_608, 1))
  setTimeout(eat, 5)
}

const server = createServer((request, response) => {
  const [path, query] = request.url.split('?')
  if (path === '/hang') return
  if (path === '/exit') process.exit(Number(query))
  if (path === '/eat') return eat()
  if (path === '/slow') return setTimeout(() => response.end('slow'), Number(query))
  if (path === '/cwd') return response.end(process.cwd())
  response.end(path === '/env' ? JSON.stringify(process.env) : String(process.pid))
})

const { HOST, PORT, SOCKET_PATH } = process.env
const where = SOCKET_PATH ? { path: SOCKET_PATH } : { host: HOST, port: Number(PORT) }
setTimeout(() => server.listen(where, () => console.log('listens')), number('--late'))
