/** Proofs of a key, by both ends. */
import { describe, expect, it } from 'vitest'
import { type DialOptions, dial, type WireServeOptions } from '../../src/wire/index.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { closing, echo, listen, pair } from './pair.ts'
import { RawPeer, rawServer } from './raw.ts'

describe('keys', () => {
  const key = 'a key of sixteen bytes or more'

  it('are proved by both ends', async () => {
    const { po, server } = await pair(echo, {
      serve: { key: (ident) => (ident === 'lab' ? key : undefined) },
      dial: { key, ident: 'lab' },
    })
    expect(await po.call('echo', 1)).toBe(1)
    expect(po.peer.isAuthenticated).toBe(true)
    await waitUntil(() => server.links.size === 1)
    expect([...server.links][0]?.po.peer).toMatchObject({ isAuthenticated: true, ident: 'lab' })
  })

  it('a server posts to a dialling peer that has a key', async () => {
    const { server } = await pair(echo, {
      serve: { key },
      dial: { key },
      ours: { who: () => 'dialler' },
    })
    await waitUntil(() => server.links.size === 1)
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

  it.each<[string, WireServeOptions, DialOptions]>([
    ['a wrong one', { key }, { key: 'another key of sixteen bytes' }],
    ['none here', { key }, {}],
    ['none there', {}, { key }],
    ['an unknown name', { key: () => undefined }, { key, ident: 'x' }],
  ])('%s is refused', async (_, ours, theirs) => {
    const server = await listen(echo, ours)
    const error = await rejectionOf(dial({ port: server.port, ...theirs }, {}))
    expect(error.code).toBe('MANYHOST_WIRE_AUTH')
    expect(error.retryable).toBe(false)
    await waitUntil(() => server.links.size === 0)
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
    expect((await rejectionOf(dial({ port: deaf.port, handshakeTimeout: 50 }, {}))).code).toBe(
      'MANYHOST_TIMEOUT',
    )
  })
})
