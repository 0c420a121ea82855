// A service as tests need one. It listens where it is told, unless it is told by its first argument to misbehave:
//   exit: exits with 3 at once     wrong-port: listens elsewhere     deaf: never listens
//   print: writes 8 MB, then exits with 4
// Paths: /pid, its pid; /sleep/MS, answers its pid after MS; /hang, never; /reset, cuts the connection; /health, 200.
// /job/MS/TEXT answers `TEXT done` after MS, and writes the request's id and attempt into the file
// $JOURNAL_FOLDER/<instance> before. With ?until=FILE, /pid, /sleep and /job answer only once that file is there.
import { appendFileSync, existsSync } from 'node:fs'
import { createServer } from 'node:http'

const [mode] = process.argv.slice(2)
const { HOST, PORT, JOURNAL_FOLDER, MANYHOST_INSTANCE } = process.env

if (mode === 'exit') {
  console.error('cannot read the configuration')
  process.exit(3)
}
if (mode === 'print') {
  for (let i = 0; i < 8; i++) process.stdout.write(`${'x'.repeat(1_048_575)}\n`)
  process.stdout.write('the last line\n', () => process.exit(4))
}

const server = createServer((request, response) => {
  const [path, file] = request.url.split('?until=')
  const [, name, argument, text] = path.split('/')
  const answer = (body) => {
    if (file === undefined || existsSync(decodeURIComponent(file))) response.end(body)
    else setTimeout(answer, 5, body)
  }
  const pid = String(process.pid)
  if (name === 'pid') answer(pid)
  else if (name === 'sleep') setTimeout(answer, Number(argument), pid)
  else if (name === 'reset') request.socket.resetAndDestroy()
  else if (name === 'health') response.end()
  else if (name === 'job') {
    const entry = [request.headers['x-request-id'], request.headers['x-manyhost-attempt']]
    appendFileSync(`${JOURNAL_FOLDER}/${MANYHOST_INSTANCE}`, `${entry.join(' ')}\n`)
    request.resume()
    request.on('end', () => setTimeout(answer, Number(argument), `${text} done`))
  }
})

if (mode === 'deaf') setInterval(() => {}, 1_000)
else if (mode === 'wrong-port') server.listen(0, HOST)
else if (mode !== 'print') server.listen(Number(PORT), HOST)
