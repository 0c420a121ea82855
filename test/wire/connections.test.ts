/** Unix sockets, handing over, beats, idleness; and links that are made anew. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  code,
  dial,
  type HostingEnd,
  type PostingEnd,
  serve,
  withReconnect,
} from '../../src/wire/index.ts'
import { parseWhere } from '../../src/wire/options.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { closing, echo, listen, pair } from './pair.ts'
import { RawPeer, rawServer } from './raw.ts'

describe('links', () => {
  it('unix sockets', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'manyhost-wire-'))
    closing.push(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'wire.sock')
    const { po } = await pair(echo, { serve: { path }, dial: { path } })
    expect(await po.call('echo', 1)).toBe(1)
    expect((await rejectionOf(dial(`unix:${path}x`, {}))).message).toContain('cannot connect')
  })

  it.each(['a:b', 'a:1:2', 'a:65536', '[1.2.3.4]:1', 'unix:', 'unix:relative', 'a b'])(
    'refuse the address %j, and do not connect to the default instead',
    async (where) => {
      for (const promise of [
        dial(where, {}),
        serve(where, {}),
        withReconnect(where, {}, () => {}),
      ]) {
        const error = await rejectionOf(promise)
        expect(error.code).toBe('MANYHOST_INVALID_OPTION')
        expect(error.message).toContain(`got ${JSON.stringify(where)}`)
      }
    },
  )

  it.each([
    ['calc', { host: 'calc', port: 3_232 }],
    ['calc:1', { host: 'calc', port: 1 }],
    [':1', { host: '127.0.0.1', port: 1 }],
    ['[::1]', { host: '::1', port: 3_232 }],
    ['[::1]:1', { host: '::1', port: 1 }],
    ['unix:/a b', { path: '/a b' }],
  ])('take the address %j', (where, expected) => {
    expect(parseWhere(where)).toEqual(expected)
  })

  it("a released connection is another protocol's, with every byte of it", async () => {
    const { po, ho } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      hand_over: () =>
        void ho.release().then((socket) => {
          socket.write('hello ')
          socket.pipe(socket)
        }),
    }))
    await po.notif('hand_over()', { waitAck: true })
    const socket = await ho.release()
    expect(po.isConnected).toBe(false)
    // Nothing of the link hangs on it any more: it may live for days.
    expect(socket.eventNames().filter((name) => name !== 'end')).toEqual([])
    socket.write('world')
    let got = ''
    socket.on('data', (chunk) => (got += chunk)).resume()
    await waitUntil(() => got === 'hello world')
    socket.destroy()
  })

  it('beats keep a quiet link, and a dead peer is found', async () => {
    const { po } = await pair(echo, {
      serve: { beat: 20, deadAfter: 100 },
      dial: { beat: 20, deadAfter: 100 },
    })
    const { bytesIn } = po.stats()
    await waitUntil(() => po.stats().bytesIn > bytesIn + 5 * '[0#beat]'.length)
    expect(po.isConnected).toBe(true)
    const peer = await rawServer()
    closing.push(peer.close)
    const dialling = dial({ port: peer.port, beat: 20, deadAfter: 100 }, {})
    const raw = await peer.peer
    await waitUntil(() => raw.got.includes('co_end'))
    const welcome = `'manyhost/1 welcome - {"nonce":"${'0'.repeat(64)}","beat":20,"packetSize":1048576}'`
    raw.say(
      `[3#co_ack_begin]100[${welcome.length}#co_recv]${welcome}[3#co_ack_end]100[2#co_ack_begin]99[2#co_ack_end]99`,
    )
    const frozen = await dialling
    expect(await frozen.po.waitDisconnected()).toMatch(/no sign of life/)
  })

  it('idle links end where that is wanted', async () => {
    const server = await listen(echo, { idleTimeout: 50 })
    const peer = await RawPeer.to(server.port)
    await peer.ends()
    expect(peer.got).toMatch(/idle for/)
  })

  it('more links than allowed are closed', async () => {
    const { server } = await pair(echo, { serve: { maxLinks: 1 } })
    expect((await rejectionOf(dial({ port: server.port }, {}))).code).toBe('MANYHOST_WIRE_CLOSED')
  })
})

describe('withReconnect', () => {
  it('keeps the job at hand when the peer goes away', async () => {
    let lives = 0
    const done: number[] = []
    const names = (po: PostingEnd) => ({
      do_job: (i: number) => {
        if (i === 5 && lives++ < 2) {
          void po.disconnect('crash')
          return new Promise(() => {})
        }
        done.push(i)
        return i
      },
    })
    const server = await listen(names)
    const jobs = Array.from({ length: 10 }, (_, i) => i)
    const delays: number[] = []
    let job: number | undefined
    await withReconnect(
      { port: server.port },
      {},
      async (po) => {
        while (job !== undefined || jobs.length > 0) {
          job ??= jobs.shift() as number
          await po.call('do_job', job)
          job = undefined
        }
      },
      { minDelay: 1, onRetry: ({ delay }) => delays.push(delay) },
    )
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(delays).toHaveLength(2)
  })

  it('hands back what was not acknowledged', async () => {
    let isFirst = true
    const got: number[] = []
    const server = await listen((po: PostingEnd) => ({
      job: (i: number) => {
        if (isFirst && i === 2) {
          isFirst = false
          void po.disconnect('crash')
          return
        }
        got.push(i)
      },
    }))
    const lists: unknown[][] = []
    await withReconnect(
      { port: server.port },
      {},
      async (po, _ho, unacknowledged) => {
        lists.push([...unacknowledged])
        const jobs = unacknowledged.length > 0 ? (unacknowledged as number[]) : [0, 1, 2, 3, 4]
        for (const job of jobs) await po.notif(code`job(${job})`, { job })
      },
      { minDelay: 1 },
    )
    expect(lists[0]).toEqual([])
    expect(lists[1]?.slice(-3)).toEqual([2, 3, 4])
    expect(new Set(got)).toEqual(new Set([0, 1, 2, 3, 4]))
  })

  it('throws what the work throws, and gives up when told or when it is of no use', async () => {
    const server = await listen(echo, { key: 'a key of sixteen bytes or more' })
    expect((await rejectionOf(withReconnect({ port: server.port }, {}, () => {}))).code).toBe(
      'MANYHOST_WIRE_AUTH',
    )
    const plain = await listen(echo)
    expect(
      (
        await rejectionOf(
          withReconnect({ port: plain.port }, {}, () => {
            throw new Error('mine')
          }),
        )
      ).message,
    ).toBe('mine')
    const gone = await rejectionOf(
      withReconnect({ port: 1, host: '127.0.0.1' }, {}, () => {}, { maxAttempts: 2, minDelay: 1 }),
    )
    expect(gone.message).toMatch(/gave up after 2 failures/)
    const controller = new AbortController()
    const waiting = rejectionOf(
      withReconnect({ port: 1 }, {}, () => {}, {
        signal: controller.signal,
        onRetry: () => controller.abort(new Error('enough')),
      }),
    )
    expect((await waiting).message).toBe('enough')
  })
})
