/** Health checks of instances whose places are all taken. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { fixed } from '../../providers/static.ts'
import { Session } from '../../src/index.ts'

const closers: (() => unknown)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function server(answer: (path: string, response: ServerResponse) => void): Promise<string> {
  const http = createServer((request, response) => answer(request.url ?? '', response))
  await new Promise<void>((up) => http.listen(0, '127.0.0.1', up))
  closers.push(() => {
    http.closeAllConnections()
    http.close()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}`
}

function sessionOver(urls: string[], threshold: number): Session {
  const session = new Session({ provider: fixed({ urls }) })
  closers.push(() => session.close({ force: true }))
  const health = { path: '/health', interval: 30, threshold }
  session.startup({ url: 'http://calc', initSize: urls.length, health, maxAttempts: 1_000 })
  return session
}

test('an instance that hangs with all its places taken is found out by its health check', async () => {
  let hung = false
  const silent = await server((path, response) => {
    if (path !== '/health') hung = true
    if (!hung) response.end()
  })
  const sound = await server((_, response) => response.end('answered'))
  const client = sessionOver([silent, sound], 2).client()
  const both = await Promise.all([1, 2].map(() => client.get('http://calc/')))
  expect(hung).toBe(true)
  expect(await Promise.all(both.map((response) => response.text()))).toEqual([
    'answered',
    'answered',
  ])
})

test('an instance that works long with all its places taken stays healthy', async () => {
  const threshold = 10
  let checks = 0
  let finish: (() => void) | undefined
  const busy = await server((path, response) => {
    if (path !== '/health') finish = () => response.end('done')
    else {
      response.end()
      // Had they failed, it would have been given up twice over by now.
      if (finish && ++checks === 4 * threshold) finish()
    }
  })
  const response = await sessionOver([busy], threshold).client().get('http://calc/')
  expect(await response.text()).toBe('done')
  expect(response.timing?.attempts).toHaveLength(1)
})
