// What the ancestor called a requestor proxy: a session, and in front of it a gateway for whoever speaks HTTP. It serves
// until Ctrl-C; with the argument `once` it asks itself a few things through the gateway, and ends.
import { fileURLToPath } from 'node:url'
import { Session } from 'manyhost'
import { createGateway } from 'manyhost/gateway'

const calculator = fileURLToPath(new URL('./calculator-server.js', import.meta.url))
const once = process.argv[2] === 'once'

const session = new Session()
session.startup({
  url: 'http://calc',
  command: [process.execPath, calculator],
  initSize: 2,
  concurrency: 4,
  ready: '/health',
})
const gateway = await createGateway(session, {
  listen: once ? '127.0.0.1:0' : '127.0.0.1:8080',
  admin: { listen: once ? '127.0.0.1:0' : '127.0.0.1:9090' },
  services: { 'http://calc': { hosts: ['calc.example'], waitingPage: true, serverTiming: true } },
})
console.log(`curl ${gateway.url}/calc/add/1/2`)
console.log(`curl -H 'Host: calc' ${gateway.url}/add/1/2`)
console.log(`dashboard: ${gateway.adminUrl}/`)

async function end() {
  await gateway.close() // takes no new request, and lets those under way end
  await session.close() // then the instances stop
}

if (once) {
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => fetch(`${gateway.url}/calc/add/${i}/${i}`)),
  )
  const sums = await Promise.all(answers.map((answer) => answer.text()))
  console.log(`by path: ${sums.slice(0, 5).join(' ')} ... ${sums.at(-1)}`)
  console.log(`timing: ${answers[0].headers.get('server-timing')}`)
  const missing = await fetch(`${gateway.url}/nobody/`)
  console.log(`nobody: ${missing.status} ${(await missing.json()).code}`)
  const metrics = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
  console.log(metrics.match(/^manyhost_requests_total.*$/m)[0])
  await end()
} else {
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
}
