/**
 * Many instances in one process, a port each. How long a request takes is drawn from its id, so that it takes as long
 * wherever it is sent; and how long it really took is told in the answer, in ns of the machine's own clock.
 *
 * Arguments: number of ports; `one` for one request at a time and port, the others in line, or `all` at once;
 * `exponential:50` or `laplace:167:2.7`, in ms. A message { slow: index, ms } makes one port slow, { slow: -1 } none.
 */
import { createServer } from 'node:http'
import { drawn, exponential } from '../lib/stats.js'

const [ports, slots, law] = process.argv.slice(2)
const [kind, average, spread] = law.split(':')
let slow = { slow: -1, ms: 0 }
process.on('message', (message) => {
  slow = message
})
process.on('disconnect', () => process.exit())

function serviceTime(id) {
  const share = drawn(id)
  if (kind === 'exponential') return exponential(share, Number(average))
  const away = Math.log(1 - 2 * Math.abs(share - 0.5)) * Number(spread)
  return Number(average) + (share < 0.5 ? away : -away)
}

function instance(index) {
  const line = []
  let busy = false
  const serve = (request, response) => {
    busy = true
    const begun = process.hrtime.bigint()
    const id = request.headers['x-request-id'] ?? ''
    const time = slow.slow === index ? slow.ms : id.startsWith('warm') ? 0 : serviceTime(id)
    setTimeout(() => {
      response.setHeader('x-begun', String(begun))
      response.setHeader('x-ended', String(process.hrtime.bigint()))
      response.setHeader('content-length', '2')
      response.end('ok')
      busy = false
      if (slots === 'one' && line.length > 0) serve(...line.shift())
    }, time)
  }
  return createServer({ keepAliveTimeout: 0 }, (request, response) => {
    if (slots === 'one' && busy) line.push([request, response])
    else serve(request, response)
  })
}

const servers = Array.from({ length: Number(ports) }, (_, index) => instance(index))
await Promise.all(servers.map((server) => new Promise((up) => server.listen(0, '127.0.0.1', up))))
process.send({ ports: servers.map((server) => server.address().port) })
