// Reserves ports of a range until there is none left, tells which it got, and keeps them until its stdin ends.
// Arguments: the folder of the built providers, first and last port.
import { pathToFileURL } from 'node:url'

const [folder, from, to] = process.argv.slice(2)
const { reservePort } = await import(pathToFileURL(`${folder}/shared/ports.js`))

// All grabbers start at the same word.
console.log('ready')
await new Promise((resolve) => process.stdin.once('data', resolve))
const ports = []
let failure = ''
while (failure === '') {
  const reserved = await reservePort('127.0.0.1', [Number(from), Number(to)]).catch((error) => {
    failure = error.message
  })
  if (reserved) ports.push(reserved.listenOn.port)
  // A session does other things as well: the grabbers alternate, and collide.
  await new Promise((resolve) => setImmediate(resolve))
}
console.log(JSON.stringify({ ports, failure }))
process.stdin.once('end', () => process.exit()).resume()
