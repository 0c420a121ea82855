/** What a conversation may do in which stage, what is called when, and who is held back by whom. */
import { describe, expect, it } from 'vitest'
import { type HostingEnd, type PostingEnd, repr, type WireEnds } from '../../src/wire/index.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'
import { echo, listen, pair } from './pair.ts'
import { RawPeer } from './raw.ts'

describe('stages', () => {
  it('code comes whole, as bytes, or piece by piece from generators and streams', async () => {
    const seen: unknown[] = []
    const { po } = await pair({ note: (x: unknown) => void seen.push(x) })
    await po.co(async (co) => {
      await co.sendCode('note(1)')
      await co.sendCode(Buffer.from('note(2)'))
      await co.sendCode(
        (function* () {
          yield 'note(3)'
          yield 'note(4)'
        })(),
      )
      await co.sendCode(
        (async function* () {
          yield 'note(5)'
        })(),
      )
      await co.waitCompleted()
    })
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  it('a hosted conversation is refused what is not of its stage', async () => {
    const results: unknown[] = []
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      async work() {
        const co = ho.co
        results.push(co.stage, (await rejectionOf(co.sendValue(1))).message)
        await co.finishRecv()
        results.push(co.stage, (await rejectionOf(co.recvObj())).message)
        await co.startSend()
        results.push(co.stage, (await rejectionOf(co.startSend())).message)
        await co.sendValue('done')
        await co.close()
        await co.close()
        results.push(co.stage, (await rejectionOf(co.sendValue(2))).message)
      },
    }))
    expect(await po.request('work()')).toBe('done')
    expect(results).toEqual([
      'recv',
      'the hosted conversation is in the stage recv, not in send',
      'work',
      'the hosted conversation is in the stage work, not in recv',
      'send',
      'the hosted conversation is in the stage send, not in work',
      'closed',
      'the hosted conversation is in the stage closed, not in send',
    ])
  })

  it('to finish receiving while something is left is an error of the conversation', async () => {
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      ...echo,
      work: () => ho.co.finishRecv(),
    }))
    const error = rejectionOf(
      po.co(async (co) => {
        await co.sendCode('work()')
        await co.sendCode('echo(1)')
        await co.waitCompleted()
      }),
    )
    expect(await error).toMatchObject({ code: 'MANYHOST_WIRE_STAGE' })
    expect((await error).message).toContain('the function has not received everything')
    expect(await po.call('echo', 2)).toBe(2)
  })

  it('`ho.co` is known until the first await, and an error says so after it', async () => {
    const { po } = await pair((_po: PostingEnd, ho: HostingEnd) => ({
      async work() {
        await null
        return ho.co
      },
    }))
    expect((await rejectionOf(po.request('work()'))).message).toContain('until the first await')
  })

  it('a conversation that outlives its link says why it cannot go on', async () => {
    const { po, server } = await pair(echo)
    const error = rejectionOf(
      po.co(async (co) => {
        await server.close('lunch')
        await waitUntil(() => !po.isConnected)
        await co.sendCode('echo(1)')
      }),
    )
    expect(await error).toMatchObject({ code: 'MANYHOST_WIRE_CLOSED' })
    expect((await error).message).toContain('lunch')
  })
})

describe('callbacks', () => {
  it('are told of the end in order, with its reason, and a server is waited for', async () => {
    const calls: unknown[] = []
    const names = {
      hbi_peer_done: () => void calls.push('peer done'),
      hbi_disconnecting: (reason: unknown) => void calls.push(['disconnecting', reason]),
      __hbi_cleanup__: (_po: unknown, _ho: unknown, reason: unknown) =>
        void calls.push(['cleanup', reason]),
      hbi_disconnected: (reason: unknown) => {
        calls.push(['disconnected', reason])
        throw new Error('which changes nothing')
      },
    }
    const errors: Error[] = []
    const { po, server } = await pair(echo, {
      ours: names,
      dial: { onError: (error) => errors.push(error) },
    })
    let isClosed = false
    void server.waitClosed().then(() => {
      isClosed = true
    })
    await server.close('going home')
    expect(await po.waitDisconnected()).toBe('peer error: going home')
    expect(calls.filter((one) => one !== 'peer done')).toEqual([
      ['disconnecting', 'peer error: going home'],
      ['cleanup', 'peer error: going home'],
      ['disconnected', 'peer error: going home'],
    ])
    expect(errors.map(({ message }) => message)).toEqual(['which changes nothing'])
    expect(isClosed).toBe(true)
  })

  it('`__hbi_land__` lands in its own way what it likes, and leaves the rest', async () => {
    const { po } = await pair((_po: PostingEnd) => ({
      ...echo,
      __hbi_land__: (text: string) => (text.startsWith('SELECT') ? [text.length] : undefined),
    }))
    expect(await po.request('SELECT 1')).toEqual([8])
    expect(await po.call('echo', 7)).toBe(7)
    expect((await rejectionOf(po.request('DELETE 1'))).code).toBe('MANYHOST_WIRE_CODE')
  })
})

describe('back-pressure', () => {
  it('a function that takes nothing holds its poster back, and takes all of it later', async () => {
    const { promise, open } = createLatch()
    const high = 65_536
    const { po, server } = await pair(
      (_po: PostingEnd, ho: HostingEnd) => ({
        async slowly(size: number) {
          const { co } = ho
          await promise
          let bytes = 0
          for await (const piece of co.recvStream(size)) bytes += piece.length
          return bytes
        },
      }),
      {
        serve: { wireBufHigh: high, wireBufLow: 1_024 },
        dial: { wireBufHigh: 1_048_576, wireBufLow: 1_024, stallTimeout: 0 },
      },
    )
    await waitUntil(() => server.links.size === 1)
    const [theirs] = server.links as Set<WireEnds>
    const piece = Buffer.alloc(1_000_000)
    const whole = 100 * piece.length
    let made = 0
    let most = 0
    const sum = po.co(async (co) => {
      await co.sendCode(`slowly(${whole})`)
      await co.sendData(
        (function* () {
          for (; made < 100; made++) {
            most = Math.max(most, theirs?.po.stats().backlog ?? 0)
            yield piece
          }
        })(),
      )
      await co.startRecv()
      return co.recvObj()
    })
    await waitUntil(() => (theirs?.po.stats().backlog ?? 0) > high, 'the host does not read on')
    const { bytesIn } = theirs?.po.stats() ?? { bytesIn: 0 }
    expect(bytesIn).toBeLessThan(5_000_000)
    expect(made).toBeLessThan(100)
    open()
    expect(await sum).toBe(whole)
    // No more than what one read of the socket brings beyond it.
    expect(most).toBeLessThan(high + 2 * 65_536)
  })

  it('half a packet is not waited for when its sender has left', async () => {
    const reasons: unknown[] = []
    const server = await listen({
      __hbi_cleanup__: (_po: unknown, _ho: unknown, reason: unknown) => void reasons.push(reason),
    })
    for (const half of ['[3', '[3#co_begin]1', '[3#co_begin]101[9#]ec']) {
      const peer = await RawPeer.to(server.port)
      peer.socket.end(half)
      await peer.ends()
      expect(peer.got).toMatch(/^\[\d+#err\]the peer left in the middle of /)
    }
    await waitUntil(() => reasons.length === 3)
  })
})

it('a value that is no literal is refused before anything of it is sent', async () => {
  const { po } = await pair(echo)
  expect((await rejectionOf(po.call('echo', new Date(0)))).code).toBe('MANYHOST_WIRE_CODE')
  expect(repr([1])).toBe('[1]')
  expect(await po.call('echo', 1)).toBe(1)
})
