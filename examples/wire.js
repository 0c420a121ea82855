// A conversation: jobs with their data go one way, results come back the other, over one connection that may break.
import { code, serve, withReconnect } from 'manyhost/wire'

let crashes = 1
const server = await serve({ port: 0 }, (po, ho) => ({
  async do_job(action, size) {
    const data = await ho.co.recvData(size)
    if (action === 'third' && crashes-- > 0) return void po.disconnect('crash')
    await po.notif(code`job_done(${`${action}: ${data.length} bytes`})`)
  },
}))

const jobs = [
  { action: 'first', data: Buffer.from('HELLO') },
  { action: 'second', data: Buffer.alloc(1_000_000) },
  { action: 'third', data: Buffer.alloc(0) },
]
const names = { job_done: (result) => console.log(`job done: ${result}`) }
let job
await withReconnect(
  { port: server.port },
  names,
  async (po) => {
    while (job || jobs.length > 0) {
      job ??= jobs.shift()
      const { action, data } = job
      // With its acknowledgement the job is the peer's; without, it is still ours when the connection breaks.
      await po.notifData(code`do_job(${action}, ${data.length})`, data, { waitAck: true })
      job = undefined
    }
  },
  { onRetry: ({ error }) => console.log(`again, as ${error.message}`) },
)
await server.close()
