/** A small server that is up as soon as Node is; it answers with its process id. */
import { createServer } from 'node:http'

createServer((_, response) => response.end(String(process.pid))).listen(
  Number(process.env.PORT),
  process.env.HOST ?? '127.0.0.1',
)
