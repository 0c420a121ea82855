/**
 * Takes 50 ms for a request, once its body is there, and answers with its id and the bytes that came. Before that it
 * writes the id into its journal, a file with its process id for a name: what is in there was executed.
 */
import { appendFileSync, openSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'

const { HOST = '127.0.0.1', PORT, JOURNAL, SERVICE = '50' } = process.env
let journal

createServer({ keepAliveTimeout: 0 }, (request, response) => {
  if (request.method === 'GET') return response.end('healthy')
  let bytes = 0
  request.on('data', (chunk) => {
    bytes += chunk.length
  })
  request.on('end', () => {
    const id = request.headers['x-request-id']
    appendFileSync(journal, `${id}\n`)
    setTimeout(() => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ id, bytes }))
    }, Number(SERVICE))
  })
  request.on('error', () => {})
}).listen(Number(PORT), HOST, () => {
  journal = openSync(join(JOURNAL, String(process.pid)), 'a')
})
