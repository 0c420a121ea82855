/** A hub of workers: `pull-hub.mjs <store file or ''>`. Sends `{ url, service }`. */
import { workers } from 'manyhost/providers/pull'

const [store] = process.argv.slice(2)
const schema = {
  type: 'object',
  properties: { a: { type: 'integer', maximum: 10 } },
  required: ['a'],
}
const provider = workers({
  listen: 0,
  maxJobs: 10_000_000,
  services: { 'http://bench': { jobRegistrationSchema: schema } },
  ...(store && { store }),
})
const { url } = await provider.ready()
process.send({ url, service: `/services/${await provider.serviceId('http://bench')}` })
// Asked for anything, it says what CPU it has used so far, in us.
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send({ cpu: user + system })
})
process.on('disconnect', () => process.exit())
