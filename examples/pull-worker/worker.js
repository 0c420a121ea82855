/** The same worker with the library: `node worker.js <service url>`. It uses long polls, so it gets a job at once. */
import { Worker } from 'manyhost/providers/pull'

const worker = new Worker({
  url: process.argv[2],
  name: `node-${process.pid}`,
  ...(process.env.MANYHOST_TOKEN && { token: process.env.MANYHOST_TOKEN }),
  handle: ({ parameters }) => ({
    words: parameters.text.split(/\s+/).filter(Boolean).length,
    by: worker.name,
  }),
}).start()

process.once('SIGTERM', () => worker.stop())
