/** How conversations and links end, and what was weak in the original. */
import { describe, expect, it } from 'vitest'
import type { HostingEnd, PostingEnd, WireEnds } from '../../src/wire/index.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'
import { echo, listen, pair } from './pair.ts'
import { RawPeer } from './raw.ts'

describe('errors and ends', () => {
  it('weakness 5: an error ends its conversation only, and its poster gets it', async () => {
    const { promise, open } = createLatch()
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
    const error = await rejectionOf(po.call('boom'))
    expect(error.code).toBe('MANYHOST_WIRE_REMOTE')
    expect(error.message).toBe("the peer's function threw RangeError: too far")
    expect(error.cause).toMatchObject({ name: 'RangeError', code: 'E_FAR' })
    expect((await rejectionOf(po.call('later'))).message).toContain('later')
    expect((await rejectionOf(po.notif('boom()', { waitAck: true }))).code).toBe(
      'MANYHOST_WIRE_REMOTE',
    )
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
      const error = await rejectionOf(po.request(text))
      expect(error.code).toBe('MANYHOST_WIRE_CODE')
      expect(error.message).toContain(what.replaceAll('"process.exit()"', 'process'))
    }
    expect(await po.request('secret')).toBe(5)
  })

  it('what a failed conversation still sends is skipped, blobs too', async () => {
    const { po } = await pair(echo)
    const error = await rejectionOf(
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
    const error = await rejectionOf(
      po.notifData('put(10)', Buffer.alloc(size, '['), { waitAck: true }),
    )
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
    expect((await rejectionOf(po.request('hang()', { deadline: 20 }))).code).toBe(
      'MANYHOST_TIMEOUT',
    )
    const controller = new AbortController()
    const hanging = rejectionOf(po.request('hang()', { signal: controller.signal }))
    await waitUntil(() => po.stats().pending > 0)
    controller.abort()
    expect((await hanging).code).toBe('MANYHOST_ABORTED')
    await waitUntil(() => aborted.length === 2)
    await waitUntil(() => po.stats().pending === 0)
    // In the middle of sending: what was sent is skipped there.
    expect(
      (
        await rejectionOf(
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
      ['[-5#]', /a packet header must be/],
      ['hello', /a packet must begin with/],
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
    await waitUntil(() => server.links.size === 2)
    const theirs = [...server.links].find((ends) => !ends.po.peer.isExtended) as WireEnds
    const reason = theirs.po.waitDisconnected()
    expect(await po.call('echo', 1)).toBe(1)
    expect(await reason).toMatch(/the peer read nothing for/)
    expect(theirs.po.stats().bytesOut).toBeLessThan(100_000_000)
    peer.socket.destroy()
  })

  it('a peer that trickles in the middle of a packet is ended', async () => {
    const server = await listen(echo, { minRate: 1_000_000 })
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
    await waitUntil(() => reasons.length === 2)
    expect(reasons).toEqual(['the peer left in the middle of conversation 101', undefined])
  })

  it('fails what is under way when the link ends, with the reason', async () => {
    const { po, server } = await pair({ hold: () => new Promise(() => {}) })
    const held = rejectionOf(po.call('hold'))
    await waitUntil(
      () => server.links.size === 1 && ([...server.links][0] as WireEnds).po.stats().hosting === 1,
    )
    await server.close('going home')
    const error = await held
    expect([error.code, error.retryable]).toEqual(['MANYHOST_WIRE_CLOSED', true])
    expect(error.message).toContain('peer error: going home')
    expect((await rejectionOf(po.call('echo', 1))).code).toBe('MANYHOST_WIRE_CLOSED')
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
    await waitUntil(() => errors.length === 1)
    expect(errors[0]?.message).toContain('nobody')
    expect(po.stats().unobserved).toBe(1)
  })
})
