/** The provider without an engine, or with one that answers nonsense. The tests with real engines are in test/engines. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { docker } from '../../../providers/docker/index.ts'
import { rejectionOf } from '../../help.ts'
import { specOf } from '../process-help.ts'

let folder: string
let server: Server | undefined
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'manyhost-no-engine-'))
})
afterEach(() => {
  server?.close()
  server = undefined
  rmSync(folder, { recursive: true, force: true })
})

const { signal } = new AbortController()
const command = ['node', 'x.js']

/** An engine that answers each connection with this text, and closes it. */
async function listenWithAnswer(answer: string): Promise<string> {
  const path = join(folder, 'engine.sock')
  server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(answer))
  }).listen(path)
  await once(server, 'listening')
  return `unix://${path}`
}

test('no engine at all: the start fails at once', async () => {
  const provider = docker({ hosts: [`unix://${folder}/none.sock`], image: 'x' })
  const error = await rejectionOf(provider.start(specOf({ command }), { signal }))
  expect(error.code).toBe('MANYHOST_START_FAILED')
  expect(error.message).toMatch(/no answer from unix:.*none\.sock.*is the engine running\?/)
  await provider.close?.()
})

test('a service without an image is refused', async () => {
  const provider = docker({ hosts: [`unix://${folder}/none.sock`] })
  const error = await rejectionOf(provider.start(specOf({ command }), { signal }))
  expect(error.code).toBe('MANYHOST_UNSUPPORTED')
  expect(error.message).toMatch(/needs an image/)
  await provider.close?.()
})

test.each([
  ['something that is no engine', 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno'],
  ['something that is no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['an answer that is cut', 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{'],
  ['a connection that is closed', ''],
])('%s: the start fails', async (_, answer) => {
  const provider = docker({ hosts: [await listenWithAnswer(answer)], image: 'x', pull: 'never' })
  const secret = 'word-that-nobody-may-read'
  const error = await rejectionOf(
    provider.start(specOf({ command, env: { TOKEN: secret } }), { signal }),
  )
  expect(error.code).toBe('MANYHOST_START_FAILED')
  expect(`${error.message} ${error.cause}`).not.toContain(secret)
  await provider.close?.()
})

test('a provider that is closed starts nothing', async () => {
  const provider = docker({ hosts: [`unix://${folder}/none.sock`], image: 'x' })
  await provider.close?.()
  const error = await rejectionOf(provider.start(specOf({ command }), { signal }))
  expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
})
