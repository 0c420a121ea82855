/** Two manyhost peers: conversations, errors, cancelling, keys, and what was weak in the original. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import {
  code,
  type DialOptions,
  dial,
  type Ends,
  type HostingEnd,
  type NamesFor,
  type PostingEnd,
  type ServeOptions,
  serve,
  type WireServer,
  withReconnect,
} from '../../src/wire/index.ts'
import { failure, latch, until } from '../help.ts'
import { RawPeer, rawServer } from './raw.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function listen(names: NamesFor, options: ServeOptions = {}): Promise<WireServer> {
  const server = await serve({ port: 0, ...options }, names)
  closing.push(() => server.close())
  return server
}

async function pair(
  names: NamesFor,
  options: { serve?: ServeOptions; dial?: DialOptions; ours?: NamesFor } = {},
): Promise<Ends & { server: WireServer }> {
  const server = await listen(names, options.serve)
  const ends = await dial({ port: server.port, ...options.dial }, options.ours ?? {})
  closing.push(() => ends.po.disconnect())
  return { ...ends, server }
}

const echo = { echo: (x: unknown) => x }

describe('conversations', () => {
  it('go both ways over one link', async () => {
    const { po, server } = await pair(
      { ...echo, add: (a: number, b: number) => a + b },
      { ours: { who: () => 'dialler' } },
    )
    expect(await po.call('add', 1, 2)).toBe(3)
    await until(() => server.links.size === 1)
    const [theirs] = server.links
    expect(await theirs?.po.call('who')).toBe('dialler')
    expect(po.peer).toMatchObject({ isExtended: true, isAuthenticated: false })
    expect(po.stats()).toMatchObject({ pending: 0, hosting: 0, failed: 0 })
  })

  it('carry any value', async () => {
    const { po } = await pair(echo)
    const value = {
      text: 'it\'s "\n\u{1f600}',
      list: [1, -2.5, null, true],
      bytes: Buffer.from([0, 255]),
      big: 10n ** 30n,
      set: new Set([1]),
    }
    expect(await po.call('echo', value)).toEqual(value)
    expect(await po.call('echo')).toBeUndefined()
  })

  it('are pipelined by the thousand, and answered as they are done', async () => {
    const gates = new Map<number, () => void>()
    const { po } = await pair({
      wait: (i: number) => new Promise((take) => gates.set(i, () => take(i))),
    })
    const answers: number[] = []
    const calls = Array.from({ length: 1_000 }, (_, i) =>
      po.call('wait', i).then((x) => answers.push(x as number)),
    )
    await until(() => gates.size === 1_000)
    for (const open of [...gates.values()].reverse()) open()
    await Promise.all(calls)
    expect(answers).toEqual(Array.from({ length: 1_000 }, (_, i) => 999 - i))
  })

  it('begin in order, and one by one with `ordered`', async () => {
    const seen: string[] = []
    const slow = async (name: string) => {
      seen.push(`+${name}`)
      await new Promise((take) => setImmediate(take))
      seen.push(`-${name}`)
    }
    const { po } = await pair({ slow }, { serve: { ordered: true } })
    await Promise.all([po.call('slow', 'a'), po.call('slow', 'b')])
    expect(seen).toEqual(['+a', '-a', '+b', '-b'])
  })

  it('stream blobs both ways, with buffers nested, generators, and streams', async () => {
    const whole = randomBytes(5_000_000)
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      async mirror(size: number) {
        const co = ho.co
        const data = await co.recvData(size)
        await co.startSend()
        await co.sendData(data)
      },
      async count(size: number) {
        let bytes = 0
        for await (const piece of ho.co.recvStream(size)) bytes += piece.length
        return bytes
      },
    }))
    const got = await po.co(async (co) => {
      await co.sendCode(code`mirror(${whole.length})`)
      await co.sendData([
        whole.subarray(0, 10),
        [whole.subarray(10, 3_000_000)],
        (function* () {
          yield whole.subarray(3_000_000)
        })(),
      ])
      await co.startRecv()
      const into = [Buffer.alloc(1_000_000), [Buffer.alloc(4_000_000)]] as const
      await co.recvData(into)
      return Buffer.concat([into[0], into[1][0] as Buffer])
    })
    expect(got.equals(whole)).toBe(true)
    const count = await po.co(async (co) => {
      await co.sendCode(code`count(${whole.length})`)
      await co.sendData(
        (async function* () {
          for (let at = 0; at < whole.length; at += 99_999) yield whole.subarray(at, at + 99_999)
        })(),
      )
      await co.startRecv()
      return co.recvObj()
    })
    expect(count).toBe(whole.length)
  })

  it('answer with objects one after the other, as a stream of logs does', async () => {
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      async logs(count: number) {
        const co = ho.co
        await co.startSend()
        for (let i = 0; i < count; i++) await co.sendValue(`line ${i}`)
      },
    }))
    const lines = await po.co(async (co) => {
      await co.sendCode('logs(300)')
      await co.startRecv()
      const all: unknown[] = []
      for await (const line of co) all.push(line)
      return all
    })
    expect(lines).toHaveLength(300)
    expect(lines.at(-1)).toBe('line 299')
  })

  it("are the seed's: do_job with a blob, and job_done as a callback", async () => {
    const done: unknown[] = []
    const { po } = await pair(
      (po: PostingEnd, ho: HostingEnd) => ({
        async do_job(action: string, size: number) {
          const data = await ho.co.recvData(size)
          await po.notif(code`job_done(${`${action}: ${data.length}`})`)
        },
      }),
      { ours: { job_done: (result: unknown) => void done.push(result) } },
    )
    for (const [action, data] of [
      ['a', 'HELLO'],
      ['b', ''],
    ] as const) {
      await po.notifData(code`do_job(${action}, ${data.length})`, Buffer.from(data))
    }
    await until(() => done.length === 2)
    expect(done).toEqual(['a: 5', 'b: 0'])
  })

  it('take back-scripts, with blobs of theirs', async () => {
    const seen: unknown[] = []
    const { po } = await pair(
      (_po: PostingEnd, ho: HostingEnd) => ({
        async work() {
          const co = ho.co
          await co.startSend()
          await co.sendCode('progress(3)')
          await co.sendData(Buffer.from('abc'))
          await co.sendValue('end')
        },
      }),
      {
        ours: (_po: PostingEnd, ho: HostingEnd) => ({
          progress: async (n: number) => void seen.push(String(await ho.co.recvData(n))),
        }),
      },
    )
    expect(await po.request('work()')).toBe('end')
    expect(seen).toEqual(['abc'])
  })

  it('do not wait for one whose response nobody takes', async () => {
    const { po } = await pair(echo)
    const first = await po.co()
    await first.sendCode("echo('first')")
    await first.startRecv()
    expect(await po.call('echo', 'second')).toBe('second')
    expect(await first.recvObj()).toBe('first')
    first.close()
    await first.waitCompleted()
  })

  it('are refused in the wrong stage', async () => {
    const { po } = await pair(echo)
    await po.co(async (co) => {
      expect((await failure(co.recvObj())).message).toBe('po co still in send stage')
      await co.sendCode('echo(1)')
      await co.startRecv()
      expect((await failure(co.sendCode('echo(2)'))).message).toBe('po co not in send stage')
      expect(await co.recvObj()).toBe(1)
      expect((await failure(co.recvObj())).code).toBe('MANYHOST_WIRE_STAGE')
    })
  })

  it('wait when too many are not acknowledged', async () => {
    const { promise, open } = latch()
    const { po } = await pair({ hold: () => promise }, { dial: { maxPending: 2 } })
    const calls = [po.call('hold'), po.call('hold'), po.call('hold')]
    await until(() => po.stats().posted >= 4)
    expect(po.stats().pending).toBe(2)
    open()
    await Promise.all(calls)
  })
})

describe('errors and ends', () => {
  it('weakness 5: an error ends its conversation only, and its poster gets it', async () => {
    const { promise, open } = latch()
    const { po } = await pair({
      ...echo,
      hold: () => promise.then(() => 'held'),
      boom: () => {
        throw Object.assign(new RangeError('too far'), { code: 'E_FAR' })
      },
      later: async () => {
        throw new Error('later')
      },
    })
    const held = po.call('hold')
    const error = await failure(po.call('boom'))
    expect(error.code).toBe('MANYHOST_WIRE_REMOTE')
    expect(error.message).toBe("the peer's function threw RangeError: too far")
    expect(error.cause).toMatchObject({ name: 'RangeError', code: 'E_FAR' })
    expect((await failure(po.call('later'))).message).toContain('later')
    expect((await failure(po.notif('boom()', { waitAck: true }))).code).toBe('MANYHOST_WIRE_REMOTE')
    open()
    expect(await held).toBe('held')
  })

  it('weakness 1: code is not evaluated; what is not allowed is named, and the link lives', async () => {
    const { po } = await pair({ ...echo, secret: 5 })
    for (const [text, what] of [
      ['evil()', 'evil'],
      ["__import__('os').system('x')", '__import__'],
      ['echo(echo(1))', 'a call within a call'],
      ['process.exit()', '"process.exit()"'],
    ] as const) {
      const error = await failure(po.request(text))
      expect(error.code).toBe('MANYHOST_WIRE_CODE')
      expect(error.message).toContain(what.replaceAll('"process.exit()"', 'process'))
    }
    expect(await po.request('secret')).toBe(5)
  })

  it('what a failed conversation still sends is skipped, blobs too', async () => {
    const { po } = await pair(echo)
    const error = await failure(
      po.co(async (co) => {
        await co.sendCode('nobody(10000000)')
        for (let i = 0; i < 10; i++) await co.sendData(Buffer.from('[3#co_end]101'.repeat(80_000)))
        await co.startRecv()
        return co.recvObj()
      }),
    )
    expect(error.code).toBe('MANYHOST_WIRE_CODE')
    expect(await po.call('echo', 1)).toBe(1)
  })

  it.each([
    ['shorter', 3],
    ['longer', 12],
  ])('weakness 9: a blob %s than announced is an error of its conversation', async (how, size) => {
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      ...echo,
      put: async (n: number) => (await ho.co.recvData(n)).length,
    }))
    const error = await failure(po.notifData('put(10)', Buffer.alloc(size, '['), { waitAck: true }))
    expect(error.code).toBe('MANYHOST_WIRE_BLOB')
    expect(error.message).toContain(`${how} than announced`)
    expect(await po.call('echo', 1)).toBe(1)
  })

  it('weakness 8: conversations have deadlines, and can be cancelled, which the other end sees', async () => {
    const aborted: unknown[] = []
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      ...echo,
      hang: () => {
        const { signal } = ho.co
        return new Promise((_, fail) =>
          signal.addEventListener('abort', () => {
            aborted.push(signal.reason.code)
            fail(signal.reason)
          }),
        )
      },
    }))
    expect((await failure(po.request('hang()', { deadline: 20 }))).code).toBe('MANYHOST_TIMEOUT')
    const controller = new AbortController()
    const hanging = failure(po.request('hang()', { signal: controller.signal }))
    await until(() => po.stats().pending > 0)
    controller.abort()
    expect((await hanging).code).toBe('MANYHOST_ABORTED')
    await until(() => aborted.length === 2)
    await until(() => po.stats().pending === 0)
    // In the middle of sending: what was sent is skipped there.
    expect(
      (
        await failure(
          po.co(async (co) => {
            await co.sendCode('echo(1)')
            throw new Error('changed my mind')
          }),
        )
      ).message,
    ).toBe('changed my mind')
    expect(await po.call('echo', 2)).toBe(2)
  })

  it('weakness 6 and 4: frames out of bounds end the link with their reason', async () => {
    for (const [bytes, reason] of [
      ['[999999999999#]', /at most 1048576/],
      ['[-5#]', /no length of a packet/],
      ['hello', /no packet begins/],
      ['[3#co_begin]101[5#co_end]99999', /mismatch/],
    ] as const) {
      const server = await listen(echo)
      const peer = await RawPeer.to(server.port)
      peer.say(bytes)
      await peer.ends()
      expect(peer.got).toMatch(/^\[\d+#err\]/)
      expect(peer.got).toMatch(reason)
    }
  })

  it('weakness 3: a peer that stops reading is not written to without end, and other links do not notice', async () => {
    const { po, server } = await pair(
      (_po: PostingEnd, ho: HostingEnd) => ({
        ...echo,
        async flood() {
          const co = ho.co
          await co.startSend()
          for (let i = 0; i < 1_000; i++) await co.sendData(Buffer.alloc(1_048_576))
        },
      }),
      { serve: { wireBufHigh: 4_194_304, stallTimeout: 300 } },
    )
    const peer = await RawPeer.to(server.port)
    peer.socket.pause()
    peer.say('[3#co_begin]101[7#]flood()[3#co_end]101')
    await until(() => server.links.size === 2)
    const theirs = [...server.links].find((ends) => !ends.po.peer.isExtended) as Ends
    const reason = theirs.po.waitDisconnected()
    expect(await po.call('echo', 1)).toBe(1)
    expect(await reason).toMatch(/the peer read nothing for/)
    expect(theirs.po.stats().bytesOut).toBeLessThan(100_000_000)
    peer.socket.destroy()
  })

  it('a peer that trickles in the middle of a packet is ended', async () => {
    const server = await listen(echo, { leastRate: 1_000_000 })
    const peer = await RawPeer.to(server.port)
    peer.say('[3#co_begin]101[1000#]')
    const timer = setInterval(() => peer.say('x'), 100)
    await peer.ends()
    clearInterval(timer)
    expect(peer.got).toMatch(/in the middle of a packet or blob/)
  })

  it('a peer that leaves in the middle is told of, and one that is done gets its answers first', async () => {
    const reasons: unknown[] = []
    const server = await listen({
      ...echo,
      __hbi_cleanup__: (_po: unknown, _ho: unknown, reason: unknown) => void reasons.push(reason),
    })
    const rude = await RawPeer.to(server.port)
    rude.socket.end('[3#co_begin]101[7#]echo(7)')
    await rude.ends()
    const polite = await RawPeer.to(server.port)
    polite.socket.end('[3#co_begin]101[7#]echo(7)[3#co_end]101')
    await polite.hears('[3#co_ack_begin]101[1#co_recv]7[3#co_ack_end]101')
    await polite.ends()
    await until(() => reasons.length === 2)
    expect(reasons).toEqual(['the peer left in the middle of conversation 101', undefined])
  })

  it('fails what is under way when the link ends, with the reason', async () => {
    const { po, server } = await pair({ hold: () => new Promise(() => {}) })
    const held = failure(po.call('hold'))
    await until(
      () => server.links.size === 1 && ([...server.links][0] as Ends).po.stats().hosting === 1,
    )
    await server.close('going home')
    const error = await held
    expect([error.code, error.retryable]).toEqual(['MANYHOST_WIRE_CLOSED', true])
    expect(error.message).toContain('peer error: going home')
    expect((await failure(po.call('echo', 1))).code).toBe('MANYHOST_WIRE_CLOSED')
  })

  it('calls init and cleanup, and refuses a link whose init fails', async () => {
    const calls: string[] = []
    const { po } = await pair(
      { ...echo, __hbi_init__: (po: PostingEnd) => void po.notif("welcome('you')") },
      {
        ours: {
          __hbi_init__: () => void calls.push('init'),
          welcome: (who: string) => void calls.push(who),
          __hbi_cleanup__: () => void calls.push('cleanup'),
        },
      },
    )
    await po.call('echo', 1)
    await po.disconnect()
    expect(calls.toSorted()).toEqual(['cleanup', 'init', 'you'])
    const server = await listen({
      __hbi_init__: () => {
        throw new Error('not today')
      },
    })
    const peer = await RawPeer.to(server.port)
    await peer.hears('[22#err]init failed: not today')
  })

  it('errors that nobody waits for are told', async () => {
    const errors: Error[] = []
    const { po } = await pair({}, { dial: { onError: (error) => errors.push(error) } })
    await po.notif('nobody()')
    await until(() => errors.length === 1)
    expect(errors[0]?.message).toContain('nobody')
    expect(po.stats().unobserved).toBe(1)
  })
})

describe('keys', () => {
  const key = 'a key of sixteen bytes or more'

  it('are proved by both ends', async () => {
    const { po, server } = await pair(echo, {
      serve: { key: (ident) => (ident === 'lab' ? key : undefined) },
      dial: { key, ident: 'lab' },
    })
    expect(await po.call('echo', 1)).toBe(1)
    expect(po.peer.isAuthenticated).toBe(true)
    await until(() => server.links.size === 1)
    expect([...server.links][0]?.po.peer).toMatchObject({ isAuthenticated: true, ident: 'lab' })
  })

  it('a server posts to a dialling peer that has a key', async () => {
    const { server } = await pair(echo, {
      serve: { key },
      dial: { key },
      ours: { who: () => 'dialler' },
    })
    await until(() => server.links.size === 1)
    expect(await [...server.links][0]?.po.call('who')).toBe('dialler')
  })

  it('those who say nothing cannot keep out those who have one', async () => {
    const server = await listen(echo, { key, maxLinks: 3 })
    const idle = await Promise.all(Array.from({ length: 9 }, () => RawPeer.to(server.port)))
    const { po } = await dial({ port: server.port, key }, {})
    closing.push(() => po.disconnect())
    expect(await po.call('echo', 1)).toBe(1)
    await Promise.all(idle.slice(0, 7).map((peer) => peer.ends()))
    expect(po.isConnected).toBe(true)
  })

  it.each<[string, ServeOptions, DialOptions]>([
    ['a wrong one', { key }, { key: 'another key of sixteen bytes' }],
    ['none here', { key }, {}],
    ['none there', {}, { key }],
    ['an unknown name', { key: () => undefined }, { key, ident: 'x' }],
  ])('%s is refused', async (_, ours, theirs) => {
    const server = await listen(echo, ours)
    const error = await failure(dial({ port: server.port, ...theirs }, {}))
    expect(error.code).toBe('MANYHOST_WIRE_AUTH')
    expect(error.retryable).toBe(false)
    await until(() => server.links.size === 0)
  })

  it('keep a plain peer out, or let it in where that is allowed', async () => {
    let calls = 0
    const names = {
      echo: (x: unknown) => {
        calls++
        return x
      },
    }
    const strict = await RawPeer.to((await listen(names, { key })).port)
    strict.say('[3#co_begin]101[7#]echo(7)[3#co_end]101')
    await strict.hears('[23#err]authentication required')
    const sly = await RawPeer.to((await listen(names, { key })).port)
    sly.say('[3#co_begin]100[7#]echo(7)[3#co_end]100')
    await sly.ends()
    expect(calls).toBe(0)
    const open = await RawPeer.to((await listen(names, { key, auth: 'optional' })).port)
    open.say('[3#co_begin]101[7#]echo(7)[3#co_end]101')
    await open.hears('[3#co_ack_begin]101[1#co_recv]7[3#co_ack_end]101')
  })

  it('cannot be replayed', async () => {
    const server = await listen(echo, { key })
    const said: Buffer[] = []
    const proxy = await rawServer()
    closing.push(proxy.close)
    const dialling = dial({ port: proxy.port, key }, {})
    const [near, far] = [await proxy.peer, await RawPeer.to(server.port)]
    near.socket.on('data', (chunk) => {
      said.push(chunk)
      far.socket.write(chunk)
    })
    far.socket.on('data', (chunk) => near.socket.write(chunk))
    if (near.got) {
      said.push(Buffer.from(near.got))
      far.say(near.got)
    }
    const { po } = await dialling
    expect(await po.call('echo', 1)).toBe(1)
    const thief = await RawPeer.to(server.port)
    thief.say(Buffer.concat(said))
    await thief.ends()
    expect(thief.got).toContain('authentication failed')
    await po.disconnect()
  })

  it('are waited for only so long, as is anybody who says nothing', async () => {
    const server = await listen(echo, { key, handshakeTimeout: 50 })
    const peer = await RawPeer.to(server.port)
    await peer.hears('[21#err]no proof within 50 ms')
    const deaf = await rawServer()
    closing.push(deaf.close)
    expect((await failure(dial({ port: deaf.port, handshakeTimeout: 50 }, {}))).code).toBe(
      'MANYHOST_TIMEOUT',
    )
  })
})

describe('roads', () => {
  it('unix sockets', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'manyhost-wire-'))
    closing.push(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'wire.sock')
    const { po } = await pair(echo, { serve: { path }, dial: { path } })
    expect(await po.call('echo', 1)).toBe(1)
    expect((await failure(dial(`unix:${path}x`, {}))).message).toContain('cannot connect')
  })

  it("a released connection is another protocol's, with every byte of it", async () => {
    const { po, ho } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      place: () =>
        void ho.release().then((socket) => {
          socket.write('hello ')
          socket.pipe(socket)
        }),
    }))
    await po.notif('place()', { waitAck: true })
    const socket = await ho.release()
    expect(po.isConnected).toBe(false)
    // Nothing of the link hangs on it any more: it may live for days.
    expect(socket.eventNames().filter((name) => name !== 'end')).toEqual([])
    socket.write('world')
    let got = ''
    socket.on('data', (chunk) => (got += chunk)).resume()
    await until(() => got === 'hello world')
    socket.destroy()
  })

  it('beats keep a quiet link, and a dead peer is found', async () => {
    const { po } = await pair(echo, {
      serve: { beat: 20, deadAfter: 100 },
      dial: { beat: 20, deadAfter: 100 },
    })
    const { bytesIn } = po.stats()
    await until(() => po.stats().bytesIn > bytesIn + 5 * '[0#beat]'.length)
    expect(po.isConnected).toBe(true)
    const peer = await rawServer()
    closing.push(peer.close)
    const dialling = dial({ port: peer.port, beat: 20, deadAfter: 100 }, {})
    const raw = await peer.peer
    await until(() => raw.got.includes('co_end'))
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
    expect((await failure(dial({ port: server.port }, {}))).code).toBe('MANYHOST_WIRE_CLOSED')
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
    expect((await failure(withReconnect({ port: server.port }, {}, () => {}))).code).toBe(
      'MANYHOST_WIRE_AUTH',
    )
    const plain = await listen(echo)
    expect(
      (
        await failure(
          withReconnect({ port: plain.port }, {}, () => {
            throw new Error('mine')
          }),
        )
      ).message,
    ).toBe('mine')
    const gone = await failure(
      withReconnect({ port: 1, host: '127.0.0.1' }, {}, () => {}, { maxAttempts: 2, minDelay: 1 }),
    )
    expect(gone.message).toMatch(/given up after 2 failures/)
    const controller = new AbortController()
    const waiting = failure(
      withReconnect({ port: 1 }, {}, () => {}, {
        signal: controller.signal,
        onRetry: () => controller.abort(new Error('enough')),
      }),
    )
    expect((await waiting).message).toBe('enough')
  })
})
