// A service as tests need one. It listens where it is told, unless it is told by its first argument to misbehave:
//   exit: exits with 3 at once     wrong-port: listens elsewhere     deaf: never listens
//   print: writes 8 MB, then exits with 4     crash: listens, and exits with 5 after 30 ms
// Paths: /pid, its pid; /sleep/MS, answers its pid after MS; /hang, never; /die, exits with 7; /reset, cuts the
// connection; /health, 200 until /sick was asked for. /job/MS/TEXT answers `TEXT done` after MS, and writes the
// request's id and attempt into the file $JOURNAL_FOLDER/<instance> before.
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'

const [mode] = process.argv.slice(2)
const { HOST, PORT, JOURNAL_FOLDER, MANYHOST_INSTANCE } = process.env
let sick = false

if (mode === 'exit') {
  console.error('cannot read the configuration')
  process.exit(3)
}
if (mode === 'print') {
  for (let i = 0; i < 8; i++) process.stdout.write(`${'x'.repeat(1_048_575)}\n`)
  process.stdout.write('the last line\n', () => process.exit(4))
}

const server = createServer((request, response) => {
  const [, name, argument, text] = request.url.split('/')
  const pid = String(process.pid)
  if (name === 'pid') response.end(pid)
  else if (name === 'sleep') setTimeout(() => response.end(pid), Number(argument))
  else if (name === 'die') process.exit(7)
  else if (name === 'reset') request.socket.resetAndDestroy()
  else if (name === 'sick') {
    sick = true
    response.end()
  } else if (name === 'health') response.writeHead(sick ? 500 : 200).end()
  else if (name === 'job') {
    const entry = [request.headers['x-request-id'], request.headers['x-manyhost-attempt']]
    appendFileSync(`${JOURNAL_FOLDER}/${MANYHOST_INSTANCE}`, `${entry.join(' ')}\n`)
    request.resume()
    request.on('end', () => setTimeout(() => response.end(`${text} done`), Number(argument)))
  }
})

if (mode === 'deaf') setInterval(() => {}, 1_000)
else if (mode === 'wrong-port') server.listen(0, HOST)
else if (mode !== 'print') server.listen(Number(PORT), HOST)
if (mode === 'crash') setTimeout(() => process.exit(5), 30)
