/**
 * A peer in Python, written after the original's transcript and with nothing but Python's own library, in both roles. It
 * evaluates what it is sent, and writes its values with `repr`, as the original does.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { crc32 } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import {
  dial,
  type HostingEnd,
  type Names,
  type PostingEnd,
  serve,
  type WireEnds,
} from '../../src/wire/index.ts'
import { LiteralReader } from '../../src/wire/literal.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'

const script = resolve('test/fakes/hbi_peer.py')
const version = spawnSync('python3', ['--version'], { encoding: 'utf8' })
if (version.status !== 0) console.error('!! SKIPPED: a peer in Python: there is no python3 here')

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

function python(...args: string[]): { child: ChildProcess; line: Promise<string> } {
  const child = spawn('python3', [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  const line = Promise.race([
    once(lines, 'line').then(([text]) => String(text)),
    exit.then(([code]) => Promise.reject(new Error(`python3 ended with ${code}`))),
  ])
  line.catch(() => {})
  closing.push(() => {
    child.kill('SIGKILL')
    return exit
  })
  return { child, line }
}

describe.skipIf(version.status !== 0)('a peer in Python', () => {
  describe('hosts', () => {
    async function dialled(names: Names = {}): Promise<WireEnds> {
      const port = Number(await python('serve').line)
      const ends = await dial({ port }, names)
      closing.push(() => ends.po.disconnect())
      return ends
    }

    it('is known as no manyhost peer, and answers any value as it was', async () => {
      const { po } = await dialled()
      expect(po.peer.isExtended).toBe(false)
      const value = {
        text: 'it\'s "\n\\\u00e9\u{1f600}\u2028',
        list: [1, -2.5, 1e300, null, true, false],
        bytes: Buffer.from([0, 39, 92, 255]),
        big: -(10n ** 30n),
        set: new Set([1]),
        map: new Map([[1, 'x']]),
        nested: { '': [[], {}] },
      }
      expect(await po.call('echo', value)).toEqual(value)
      expect(await po.call('echo', Number.NEGATIVE_INFINITY)).toBe(Number.NEGATIVE_INFINITY)
    })

    it('takes blobs and sends them, without packets around them', async () => {
      const { po } = await dialled()
      const blob = Buffer.alloc(3_000_000, '[3#co_end]101')
      const sum = await po.co(async (co) => {
        await co.sendCode(`put(${blob.length})`)
        await co.sendData(blob)
        await co.startRecv()
        return co.recvObj()
      })
      if (crc32) expect(sum).toBe(crc32(blob))
      const got = await po.co(async (co) => {
        await co.sendCode('get(500000)')
        await co.startRecv()
        return co.recvData(500_000)
      })
      expect(got.equals(Buffer.alloc(500_000, 'z'))).toBe(true)
    })

    it('is asked for values, by the hundred, and answers a later one first', async () => {
      const { po } = await dialled()
      expect(await po.getObj('1+1')).toBe(2)
      const order: unknown[] = []
      const both = ['slow', 'echo'].map((name) => po.call(name, name).then((x) => order.push(x)))
      await Promise.all(both)
      expect(order).toEqual(['echo', 'slow'])
      const many = Array.from({ length: 500 }, (_, i) => i)
      expect(await Promise.all(many.map((i) => po.call('echo', i)))).toEqual(many)
      for (const i of many) await po.notif(`note(${i})`)
      await po.waitCompleted()
      expect(await po.call('notes')).toBe(500)
    })

    it("calls back, as the seed's job_done", async () => {
      const done: unknown[] = []
      const { po } = await dialled({ job_done: (what: unknown) => void done.push(what) })
      await po.notif("later('it')")
      await waitUntil(() => done.length === 1)
      expect(done).toEqual(['it'])
    })

    it('ends the link when its code throws, without a word, and what was under way is told', async () => {
      const { po } = await dialled()
      const lost = rejectionOf(po.call('nobody', 1))
      expect(await lost).toMatchObject({ code: 'MANYHOST_WIRE_CLOSED', retryable: true })
      expect(po.isConnected).toBe(false)
    })
  })

  it('posts: it gets what it would from the original', async () => {
    const { promise, open } = createLatch()
    const server = await serve({ port: 0 }, (po: PostingEnd, ho: HostingEnd) => ({
      echo: (...args: unknown[]) => {
        if (args[0] === 'B') setImmediate(open)
        return args.length === 1 ? args[0] : args
      },
      put: async (size: number) => {
        const bytes = await ho.co.recvData(size)
        return crc32 ? crc32(bytes) : -1
      },
      get: async (size: number) => {
        const co = ho.co
        await co.startSend()
        await co.sendData(Buffer.alloc(size, 'z'))
      },
      slow: async (value: unknown) => {
        const co = ho.co
        await co.finishRecv()
        await promise
        await co.startSend()
        await co.sendValue(value)
      },
      call_back: (name: string, value: number) => void po.notif(`${name}(${value})`),
    }))
    closing.push(() => server.close())
    const { line, child } = python('dial', String(server.port))
    const said = await line
    const got = new LiteralReader(said, () => undefined).readValue() as Record<string, unknown>
    if (!crc32) Object.assign(got, { put: 3_242_484_790, big: true })
    expect(got).toEqual({
      echo: [1, -2.5, null, true, 'it\'s "\n\u00e9\u{1f600}', Buffer.from([0, 255]), { a: [1, 2] }],
      assigned: null,
      keywords: ['a', { size: 5 }],
      put: 3_242_484_790,
      big: true,
      get: Buffer.from('zzzz'),
      co_send: ['co_recv', '2'],
      order: [
        ['fast', 'B'],
        ['slow', 'A'],
      ],
      pipelined: true,
      heard: [7],
    })
    await waitUntil(() => child.exitCode === 0, 'it has ended in peace')
    await waitUntil(() => server.links.size === 0)
  })
})
