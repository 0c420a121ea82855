/** The original's final wire, byte for byte, in both roles. */
import { crc32 } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import {
  dial,
  type HostingEnd,
  type NamesFor,
  serve,
  type WireServer,
} from '../../src/wire/index.ts'
import { createLatch, waitUntil } from '../help.ts'
import { RawPeer, rawServer } from './raw.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function served(names: NamesFor): Promise<RawPeer> {
  const server: WireServer = await serve({ port: 0 }, names)
  closing.push(() => server.close())
  const peer = await RawPeer.to(server.port)
  closing.push(() => peer.socket.destroy())
  return peer
}

/** CRC-32, which Node 20 may lack in zlib. */
function crc(bytes: Buffer): number {
  if (crc32) return crc32(bytes)
  let sum = ~0
  for (const byte of bytes) {
    sum ^= byte
    for (let i = 0; i < 8; i++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0)
  }
  return ~sum >>> 0
}

function names(slow = Promise.resolve()) {
  return (_po: unknown, ho: HostingEnd) => ({
    echo: (x: unknown) => x,
    put: async (size: number) => crc(await ho.co.recvData(size)),
    get: async (size: number) => {
      const co = ho.co
      await co.startSend()
      await co.sendData(Buffer.alloc(size, 'z'))
    },
    slow: async (x: unknown) => {
      const co = ho.co
      await co.finishRecv()
      await slow
      await co.startSend()
      await co.sendValue(x)
    },
    boom: () => {
      throw new Error('as it should')
    },
  })
}

const CALLS: [string, string][] = [
  ['[3#co_begin]101[7#]echo(7)[3#co_end]101', '[3#co_ack_begin]101[1#co_recv]7[3#co_ack_end]101'],
  ['[3#co_begin]102[3#]x=1[3#co_end]102', '[3#co_ack_begin]102[3#co_ack_end]102'],
  [
    '[3#co_begin]103[3#co_send]1+1[3#co_end]103',
    '[1#co_recv]2[3#co_ack_begin]103[3#co_ack_end]103',
  ],
  [
    '[3#co_begin]104[6#]put(5)HELLO[3#co_end]104',
    '[3#co_ack_begin]104[10#co_recv]3242484790[3#co_ack_end]104',
  ],
  ['[3#co_begin]105[6#]get(4)[3#co_end]105', '[3#co_ack_begin]105zzzz[3#co_ack_end]105'],
]

describe('the golden transcript, as host', () => {
  it.each(CALLS)('%s', async (said, answer) => {
    const peer = await served(names())
    peer.say(said)
    await peer.hears(answer)
  })

  it('all of it at once, and byte by byte', async () => {
    const said = CALLS.map(([one]) => one).join('')
    const answer = CALLS.map(([, one]) => one).join('')
    const peer = await served(names())
    peer.say(said)
    await peer.hears(answer)
    const slow = await served(names())
    for (const byte of Buffer.from(said)) {
      slow.say(Buffer.of(byte))
      await new Promise((take) => setImmediate(take))
    }
    await slow.hears(answer)
  })

  it('answers 108 before 107, all of each', async () => {
    const { promise, open } = createLatch()
    const peer = await served(names(promise))
    peer.say("[3#co_begin]107[9#]slow('A')[3#co_end]107[3#co_begin]108[9#]echo('B')[3#co_end]108")
    await peer.hears("[3#co_ack_begin]108[3#co_recv]'B'[3#co_ack_end]108")
    open()
    await peer.hears("[3#co_ack_begin]107[3#co_recv]'A'[3#co_ack_end]107")
  })

  it('refuses a bogus direction, and says so', async () => {
    const peer = await served(names())
    peer.say('[1#bogus]x')
    await peer.hears('[37#err]COKEEPER unexpected packet: [#bogus]x')
    await peer.ends()
    expect(peer.got).toBe('')
  })

  it('ends the link when code throws; unlike the original, it says why (weakness 5)', async () => {
    const peer = await served(names())
    peer.say('[3#co_begin]101[6#]boom()[3#co_end]101')
    await peer.hears('[12#err]as it should')
    await peer.ends()
  })
})

describe('code of an original peer that cannot be landed', () => {
  const CODE = [
    "print('Welcome to HBI world!')",
    'unknown()',
    'import os',
    'echo(nobody)',
    'x = lambda: 1',
    'echo(1); unknown()',
  ]

  it.each(CODE)('%s: is reported, ends its conversation, and not the link', async (text) => {
    const errors: Error[] = []
    const server = await serve({ port: 0, onError: (error) => errors.push(error) }, names())
    closing.push(() => server.close())
    const peer = await RawPeer.to(server.port)
    closing.push(() => peer.socket.destroy())
    peer.say(`[3#co_begin]101[${text.length}#]${text}[3#co_end]101`)
    await peer.hears('[3#co_ack_begin]101[3#co_ack_end]101')
    expect(errors.map((error) => (error as { code?: string }).code)).toEqual(['MANYHOST_WIRE_CODE'])
    peer.say('[3#co_begin]102[7#]echo(7)[3#co_end]102')
    await peer.hears('[3#co_ack_begin]102[1#co_recv]7[3#co_ack_end]102')
    expect(peer.isEnded).toBe(false)
  })

  it('what stands behind it in the same conversation is not landed', async () => {
    const landed: unknown[] = []
    const peer = await served({ note: (x: unknown) => void landed.push(x) })
    peer.say('[3#co_begin]101[7#]note(1)[6#]nope()[7#]note(2)[3#co_end]101')
    await peer.hears('[3#co_ack_begin]101[3#co_ack_end]101')
    peer.say('[3#co_begin]102[7#]note(3)[3#co_end]102')
    await peer.hears('[3#co_ack_begin]102[3#co_ack_end]102')
    expect(landed).toEqual([1, 3])
  })

  it('ends the link where its poster waits for an object outside of a response', async () => {
    const peer = await served(names())
    peer.say('[3#co_begin]101[6#co_send]nope()[3#co_end]101')
    await waitUntil(() => peer.got.includes('#err]'))
    await peer.ends()
  })

  it('a blob behind it ends the link', async () => {
    const peer = await served(names())
    peer.say('[3#co_begin]101[7#]nope(5)HELLO[3#co_end]101')
    await waitUntil(() => peer.got.includes('#err]'))
    await peer.ends()
  })

  it("ends the link with badCode: 'disconnect'", async () => {
    const server = await serve({ port: 0, badCode: 'disconnect' }, names())
    closing.push(() => server.close())
    const peer = await RawPeer.to(server.port)
    closing.push(() => peer.socket.destroy())
    peer.say('[3#co_begin]101[6#]nope()[3#co_end]101')
    await waitUntil(() => peer.got.includes('#err]'))
    await peer.ends()
  })

  it("a dialled peer that prints at connect, as the original's hello server does", async () => {
    const raw = await rawServer()
    closing.push(raw.close)
    const errors: Error[] = []
    const dialling = dial({ port: raw.port, onError: (error) => errors.push(error) }, {})
    const peer = await raw.peer
    const text = "print('Welcome!')"
    peer.say(`[1#co_begin]1[${text.length}#]${text}[1#co_end]1`)
    await waitUntil(() => peer.got.includes('co_end]100'))
    expect(peer.got).toContain('[1#co_ack_begin]1[1#co_ack_end]1')
    peer.got = ''
    peer.say('[3#co_ack_begin]100[3#co_ack_end]100')
    const { po } = await dialling
    expect(errors[0]?.message).toMatch(/print/)
    const answer = po.call('hello')
    await peer.hears('[3#co_begin]101[7#]hello()[3#co_end]101')
    peer.say("[3#co_ack_begin]101[4#co_recv]'hi'[3#co_ack_end]101")
    expect(await answer).toBe('hi')
  })
})

describe('the golden transcript, as poster', () => {
  async function dialled(extensions = false) {
    const server = await rawServer()
    closing.push(server.close)
    const dialling = dial({ port: server.port, extensions }, {})
    const peer = await server.peer
    return { dialling, peer }
  }

  it('says and hears the same bytes', async () => {
    const { dialling, peer } = await dialled()
    const { po } = await dialling
    const first = po.call('echo', 7)
    await peer.hears(CALLS[0]?.[0] as string)
    peer.say(CALLS[0]?.[1] as string)
    expect(await first).toBe(7)

    const second = po.notif('x=1', { waitAck: true })
    await peer.hears(CALLS[1]?.[0] as string)
    peer.say(CALLS[1]?.[1] as string)
    await second

    const third = po.getObj('1+1')
    await peer.hears('[3#co_begin]103[3#co_send]1+1')
    peer.say('[1#co_recv]2')
    await peer.hears('[3#co_end]103')
    peer.say('[3#co_ack_begin]103[3#co_ack_end]103')
    expect(await third).toBe(2)

    const fourth = po.co(async (co) => {
      await co.sendCode('put(5)')
      await co.sendData(Buffer.from('HELLO'))
      await co.startRecv()
      return co.recvObj()
    })
    await peer.hears(CALLS[3]?.[0] as string)
    peer.say(CALLS[3]?.[1] as string)
    expect(await fourth).toBe(3242484790)

    const fifth = po.co(async (co) => {
      await co.sendCode('get(4)')
      await co.startRecv()
      return String(await co.recvData(4))
    })
    await peer.hears(CALLS[4]?.[0] as string)
    peer.say(CALLS[4]?.[1] as string)
    expect(await fifth).toBe('zzzz')

    const sixth = po.call('slow', 'A')
    const seventh = po.call('echo', 'B')
    await peer.hears(
      "[3#co_begin]106[9#]slow('A')[3#co_end]106[3#co_begin]107[9#]echo('B')[3#co_end]107",
    )
    peer.say(
      "[3#co_ack_begin]107[3#co_recv]'B'[3#co_ack_end]107[3#co_ack_begin]106[3#co_recv]'A'[3#co_ack_end]106",
    )
    expect(await Promise.all([sixth, seventh])).toEqual(['A', 'B'])
    const reason = po.waitDisconnected()
    peer.say('[4#err]ouch')
    expect(await reason).toBe('peer error: ouch')
    await peer.ends()
    expect(peer.got).toBe('')
  })

  it('greets a peer with text that has no effect there, and goes on as the original if that says nothing', async () => {
    const { dialling, peer } = await dialled(true)
    await peer.hears('[3#co_begin]100[')
    peer.say('[3#co_ack_begin]100[3#co_ack_end]100')
    const { po } = await dialling
    expect(po.peer.isExtended).toBe(false)
    expect(peer.got).toMatch(/^\d+#\]'manyhost\/1 hello - \{[^']*'\[3#co_end\]100$/)
    peer.got = ''
    void po.notif('hi()')
    await peer.hears('[3#co_begin]101[4#]hi()[3#co_end]101')
  })
})
