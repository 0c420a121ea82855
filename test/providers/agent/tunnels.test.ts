/** Tunnels: what a connection to an instance carries, a tunnel carries as well, and it ends in the same way. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { Duplex, PassThrough, Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { AgentsProvider } from '../../../providers/agent/index.ts'
import { connectInstance, splice } from '../../../providers/agent/splice.ts'
import type { Running } from '../../../src/core/provider.ts'
import { createMemoryMeter, findInstancePids, waitUntil } from '../../help.ts'
import { get, specOf } from '../process-help.ts'
import { type LocalAgent, openTestAgents, startLocalAgent } from './help.ts'

// Real processes, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const command = ['node', resolve('test/fakes/lane-server.mjs')]
let provider: AgentsProvider
let agent: LocalAgent

beforeEach(async () => {
  provider = openTestAgents()
  agent = startLocalAgent(await provider.address())
})
afterEach(async () => {
  await provider.close?.()
  await agent.end()
})

async function serving(...args: string[]): Promise<Running & { readonly id: string }> {
  const spec = specOf({ command: [...command, ...args], concurrency: 4 })
  const signal = new AbortController().signal
  const running = await provider.start(spec, { signal })
  await waitUntil(
    () =>
      running.accepts?.(signal).then(
        () => true,
        () => false,
      ) ?? true,
  )
  return Object.assign(running, { id: spec.id })
}

describe('a tunnel', () => {
  it('is reused, and replaced after `Connection: close`', async () => {
    const { dispatcher } = await serving()
    for (let i = 0; i < 20; i++) expect(await get(dispatcher, '/close')).toBe('closed')
    for (let i = 0; i < 20; i++) expect(Number(await get(dispatcher, '/pid'))).toBeGreaterThan(0)
  })

  it('streams a response while the request is sent, and carries a large one completely', async () => {
    const { dispatcher } = await serving()
    // Each part is sent after the part before it has come back. So a response that is collected first would never end.
    const parts = new PassThrough()
    const asked = dispatcher.request({ path: '/echo', method: 'POST', body: parts })
    parts.write('0')
    const { body } = await asked
    let echoed = ''
    for await (const chunk of body) {
      echoed += chunk
      if (echoed.length < 10) parts.write(String(echoed.length))
      else parts.end()
    }
    expect(echoed).toBe('0123456789')
    const big = await dispatcher.request({ path: '/big/30000000', method: 'GET' })
    expect((await big.body.arrayBuffer()).byteLength).toBe(30_000_000)
  })

  it('streams a large request, with the response at the same time', async () => {
    const { dispatcher } = await serving()
    const piece = Buffer.alloc(100_000, 'x')
    const parts = async function* () {
      for (let i = 0; i < 100; i++) yield piece
    }
    const { body } = await dispatcher.request({
      path: '/echo',
      method: 'POST',
      body: Readable.from(parts()),
    })
    expect((await body.arrayBuffer()).byteLength).toBe(10_000_000)
  })

  it('holds back a server whose response nobody reads', async () => {
    const { dispatcher } = await serving()
    const { body } = await dispatcher.request({ path: '/big/60000000', method: 'GET' })
    const held = await createMemoryMeter()
    const before = held()
    body.pause()
    await get(dispatcher, '/stream/50')
    expect(held() - before).toBeLessThan(50_000_000)
    expect((await body.arrayBuffer()).byteLength).toBe(60_000_000)
  })

  it('carries an upgrade, with the end of either side', async () => {
    const { dispatcher } = await serving()
    const { socket } = await dispatcher.upgrade({ path: '/', protocol: 'echo' })
    socket.write('hello')
    expect(String((await once(socket, 'data'))[0])).toBe('hello')
    const [bye, ended] = [once(socket, 'data'), once(socket, 'end')]
    socket.end()
    expect(String((await bye)[0])).toBe('bye')
    await ended
  })

  it('a response that ends with its connection is complete; one that is reset is an error', async () => {
    const { dispatcher } = await serving('raw')
    expect(await get(dispatcher, '/unlengthed')).toBe('the first half, the second half')
    await expect(get(dispatcher, '/cut')).rejects.toThrow()
  })

  it('to a server that has ended is refused', async () => {
    const { dispatcher, accepts, exited, id } = await serving()
    await get(dispatcher, '/pid')
    for (const pid of findInstancePids(id)) process.kill(pid, 'SIGKILL')
    expect(await exited).toMatchObject({ reason: 'killed' })
    await expect(get(dispatcher, '/pid')).rejects.toThrow(/destroyed|killed by SIGKILL/)
    await expect(accepts?.(new AbortController().signal)).rejects.toThrow()
  })
})

describe('how a server ends its connection', () => {
  /** A process that answers the first bytes with a few bytes, and ends the connection at once in the given way. */
  async function ending(how: string): Promise<number> {
    const script = `const server = require('node:net').createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.write('half', () => socket.${how}))
    }).listen(0, '127.0.0.1', () => console.log(server.address().port))`
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const [line] = await once(child.stdout as Readable, 'data')
    return Number(String(line))
  }

  it.each([
    ['end()', true],
    ['resetAndDestroy()', false],
    ['end(() => socket.resetAndDestroy())', true],
  ] as const)(
    '%s together with the last bytes counts as a proper end: %s',
    async (how, isProper) => {
      const local = await connectInstance({ host: '127.0.0.1', port: await ending(how) })
      local.write('go')
      // The agent stands still. When it goes on, the bytes and the end have arrived together.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000)
      const tunnel = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
      expect(await new Promise((resolve) => splice(tunnel, local, resolve))).toBe(isProper)
    },
  )
})
