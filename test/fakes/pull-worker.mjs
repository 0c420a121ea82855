/**
 * A worker in a process of its own, with fetch alone: `node pull-worker.mjs <service url> <name> [hold]`. It says
 * `has <id>` when it has a job; with `hold` it answers only when it is told to, by a line on standard input.
 */
import { once } from 'node:events'
import { createInterface } from 'node:readline'

const [url, name, hold] = process.argv.slice(2)
const headers = { 'x-manyhost-worker': name }
const lines = createInterface({ input: process.stdin })

const checkIn = () => fetch(url, { method: 'PATCH', headers }).catch(() => undefined)
await checkIn()
setInterval(checkIn, 100)
console.log('ready')
for (;;) {
  const asked = await fetch(`${url}/next`, { headers: { ...headers, prefer: 'wait=5' } })
  if (asked.status !== 200) continue
  const { data } = await asked.json()
  console.log(`has ${data.id}`)
  if (hold) await once(lines, 'line')
  const answered = await fetch(`${url.split('/services/')[0]}/jobs/${data.id}`, {
    method: 'PATCH',
    headers: {
      ...headers,
      'content-type': 'application/json',
      'x-manyhost-lease': asked.headers.get('x-manyhost-lease'),
    },
    body: JSON.stringify({ status: 'COMPLETED', results: { by: name } }),
  })
  console.log(`told ${answered.status}`)
}
