/** One test for each undocumented field of undici that manyhost uses: a version without the field fails here. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { Client } from 'undici'
import { expect, onTestFinished, test } from 'vitest'
import { undiciParserOf } from '../../src/core/undici-internals.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

test('the parser of a connection is found, and says whether a slow reader has paused it', async () => {
  const server = createServer((_request, response) => response.end(Buffer.alloc(1_000_000)))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  let socket!: Socket
  const client = new Client(`http://127.0.0.1:${port}`, {
    connect: (_options, callback) => {
      socket = connect(port, '127.0.0.1', () => callback(null, socket))
    },
  })
  const { body } = await client.request({ method: 'GET', path: '/' })
  await waitUntil(() => undiciParserOf(socket)?.paused === true, 'the parser is paused')
  await body.dump({ limit: 2_000_000 })
  expect(undiciParserOf(socket)?.paused).toBe(false)
  await client.close()
  expect(undiciParserOf(socket)).toBeUndefined()
})

test('a socket that undici does not have has no parser', async () => {
  const { Socket } = await import('node:net')
  expect(undiciParserOf(new Socket())).toBeUndefined()
})
