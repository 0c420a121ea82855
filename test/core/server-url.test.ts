import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { formatServerUrl } from '../../src/core/http/server-url.ts'

test.each([
  ['127.0.0.1', /^http:\/\/127\.0\.0\.1:[1-9]\d*$/],
  ['::1', /^http:\/\/\[::1\]:[1-9]\d*$/],
])('the URL of a server on %s has the port that the system chose', async (host, pattern) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  expect(formatServerUrl(server, 'http')).toMatch(pattern)
  server.close()
})
