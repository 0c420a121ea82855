/** Two manyhost peers: conversations, pipelined, streamed, both ways. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { code, type HostingEnd, type PostingEnd } from '../../src/wire/index.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'
import { echo, pair } from './pair.ts'

describe('conversations', () => {
  it('go both ways over one link', async () => {
    const { po, server } = await pair(
      { ...echo, add: (a: number, b: number) => a + b },
      { ours: { who: () => 'dialler' } },
    )
    expect(await po.call('add', 1, 2)).toBe(3)
    await waitUntil(() => server.links.size === 1)
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
    await waitUntil(() => gates.size === 1_000)
    for (const open of [...gates.values()].reverse()) open()
    await Promise.all(calls)
    expect(answers).toEqual(Array.from({ length: 1_000 }, (_, i) => 999 - i))
  })

  it('give an object to who asked last, though that one did not wait: who asked before has the next one', async () => {
    const got: Record<string, unknown> = {}
    const landed = createLatch()
    let ho: HostingEnd | undefined
    const names = (_po: PostingEnd, own: HostingEnd) => {
      ho = own
      const take = async (who: string): Promise<void> => {
        got[who] = await ho?.co?.recvObj()
      }
      return {
        first: () => take('first'),
        second: () => {
          void take('second')
          landed.open()
        },
      }
    }
    const { po } = await pair(names)
    const done = po.co(async (co) => {
      await co.sendCode('first()')
      await co.sendCode('second()')
      await landed.promise
      await co.sendObj('1')
      await co.sendObj('2')
      await co.waitCompleted()
    })
    await done
    expect(got).toEqual({ second: 1, first: 2 })
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
    await waitUntil(() => done.length === 2)
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
      expect((await rejectionOf(co.recvObj())).message).toBe(
        'the posted conversation is still in the stage send: call startRecv() first',
      )
      await co.sendCode('echo(1)')
      await co.startRecv()
      expect((await rejectionOf(co.sendCode('echo(2)'))).message).toBe(
        'the posted conversation is in the stage recv, not in send',
      )
      expect(await co.recvObj()).toBe(1)
      expect((await rejectionOf(co.recvObj())).code).toBe('MANYHOST_WIRE_STAGE')
    })
  })

  it('wait when too many are not acknowledged', async () => {
    const { promise, open } = createLatch()
    const { po } = await pair({ hold: () => promise }, { dial: { maxPending: 2 } })
    const calls = [po.call('hold'), po.call('hold'), po.call('hold')]
    await waitUntil(() => po.stats().posted >= 4)
    expect(po.stats().pending).toBe(2)
    open()
    await Promise.all(calls)
  })
})
