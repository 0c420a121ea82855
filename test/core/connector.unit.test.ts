/** How the end of a connection is told to undici's parser, which may be paused then: without sockets and time. */
import { Duplex } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import { connectionFailureOf, patchSocket } from '../../src/core/connector.ts'
import { useFalseClock } from '../clock.ts'
import { runEventLoop } from '../help.ts'

/** A connection as undici has one: its parser under a symbol, asked by `readable`, and told by `end`. */
class Connection extends Duplex {
  readonly parser = { paused: false }
  readonly said: string[] = []

  constructor(more: object = {}) {
    super({ allowHalfOpen: true })
    Object.assign(this, more, { [Symbol('parser')]: this.parser })
  }

  override _read(): void {}

  override _write(_chunk: Buffer, _coding: string, callback: () => void): void {
    callback()
  }

  /** Listens, and reads on, as undici does. */
  begin(): this {
    patchSocket(this)
    this.on('readable', () => this.readOn())
    this.on('end', () => this.said.push(this.parser.paused ? 'end while paused' : 'end'))
    this.on('error', ({ message }) => this.said.push(message))
    return this
  }

  readOn(): void {
    while (!this.parser.paused) {
      const chunk = this.read() as Buffer | null
      if (chunk === null) break
      this.said.push(String(chunk))
      // Whoever takes the answer is slow.
      if (String(chunk) === 'much') this.parser.paused = true
    }
  }

  resumeParser(): void {
    this.parser.paused = false
    this.readOn()
  }
}

test('an end is told at once to a parser that waits', async () => {
  const connection = new Connection().begin()
  connection.push('some')
  await runEventLoop()
  connection.push(null)
  await runEventLoop()
  expect(connection.said).toEqual(['some', 'end'])
})

test('end of a connection under a paused parser: told when it has had all', async () => {
  const connection = new Connection().begin()
  connection.push('much')
  await runEventLoop()
  connection.push('last')
  connection.push(null)
  await runEventLoop()
  expect(connection.said).toEqual(['much'])
  connection.resumeParser()
  await runEventLoop()
  expect(connection.said).toEqual(['much', 'last', 'end'])
})

test('end of a connection under a parser that pauses between the end and its telling (Node 24)', async () => {
  const connection = new Connection().begin()
  await runEventLoop()
  // It waits, so that the end goes into the stream, which tells it in a later turn.
  connection.readOn()
  connection.push(null)
  connection.parser.paused = true
  await runEventLoop()
  expect(connection.said).toEqual([])
  connection.resumeParser()
  await runEventLoop()
  expect(connection.said).toEqual(['end'])
})

test('a reset that was taken for an end, while nothing was read, is an error', async () => {
  const connection = new Connection({ localAddress: '127.0.0.1' }).begin()
  connection.push('some')
  await runEventLoop()
  connection.push(null)
  await runEventLoop()
  expect(connection.said).toEqual(['some', 'read ECONNRESET'])
})

test('a peer that ends after us is no reset, though there is no peer any more', async () => {
  const connection = new Connection({ localAddress: '127.0.0.1' }).begin()
  connection.end()
  connection.push('some')
  await runEventLoop()
  connection.push(null)
  await runEventLoop()
  expect(connection.said).toEqual(['some', 'end'])
})

test('after an upgrade there is no parser, and the end is told as it comes', async () => {
  const connection = new Connection()
  for (const key of Object.getOwnPropertySymbols(connection)) {
    if (key.description === 'parser') Reflect.deleteProperty(connection, key)
  }
  patchSocket(connection)
  connection.on('end', () => connection.said.push('end'))
  connection.push('some')
  connection.push(null)
  connection.resume()
  await runEventLoop()
  expect(connection.said).toEqual(['end'])
})

/** A connection whose writes fail from the moment that the test says so. */
class Unwritable extends Connection {
  broken: NodeJS.ErrnoException | undefined

  override _write(_chunk: Buffer, _coding: string, callback: (error?: Error) => void): void {
    callback(this.broken)
  }
}

function broken(code: string, syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${syscall} ${code}`), { code, syscall })
}

describe('after a write has failed', () => {
  test('what can still be read is read, and then the end is told', async () => {
    const connection = new Unwritable().begin() as Unwritable
    connection.broken = broken('EPIPE', 'write')
    connection.write('a body')
    await runEventLoop()
    expect([connection.said, connection.destroyed]).toEqual([[], false])
    connection.push('an answer')
    connection.push(null)
    await runEventLoop()
    expect(connection.said).toEqual(['an answer', 'end'])
  })

  test('a peer that never ends is given up after a second', async () => {
    const clock = useFalseClock()
    const connection = new Unwritable().begin() as Unwritable
    connection.broken = broken('ECONNRESET', 'write')
    connection.write('a body')
    await clock.pass(999)
    expect(connection.destroyed).toBe(false)
    await clock.pass(1)
    expect([connection.said, connection.destroyed]).toEqual([['write ECONNRESET'], true])
  })

  test('nothing is left of it when the connection is closed meanwhile', async () => {
    useFalseClock()
    const connection = new Unwritable().begin() as Unwritable
    connection.broken = broken('EPIPE', 'write')
    connection.write('a body')
    connection.destroy()
    await runEventLoop()
    expect([connection.said, vi.getTimerCount()]).toEqual([[], 0])
  })

  test.each([
    ['EPIPE', 'end'],
    ['ECONNRESET', 'read ECONNRESET'],
  ])('the end of a connection without a peer is told apart by it: %s', async (code, told) => {
    const connection = new Unwritable({ localAddress: '127.0.0.1' }).begin() as Unwritable
    connection.broken = broken(code, 'write')
    connection.write('a body')
    connection.push('an answer')
    connection.push(null)
    await runEventLoop()
    expect(connection.said).toEqual(['an answer', told])
  })
})

test('without a failed write, an empty one tells apart how a connection without a peer has ended', async () => {
  for (const [code, told] of [
    ['EPIPE', 'end'],
    ['ECONNRESET', 'read ECONNRESET'],
  ] as const) {
    const connection = new Unwritable({ localAddress: '127.0.0.1' }).begin() as Unwritable
    connection.push('an answer')
    await runEventLoop()
    connection.broken = broken(code, 'write')
    connection.push(null)
    await runEventLoop()
    expect(connection.said).toEqual(['an answer', told])
  }
})

test('a failed read waits until what was read before is taken', async () => {
  const connection = new Connection().begin()
  connection.push('much')
  await runEventLoop()
  connection.push('last')
  connection.destroy(broken('ECONNRESET', 'read'))
  await runEventLoop()
  expect(connection.said).toEqual(['much'])
  connection.resumeParser()
  await runEventLoop()
  expect(connection.said).toEqual(['much', 'last', 'read ECONNRESET'])
})

test('why a connection failed its request: the parser refused the answer, or the peer ended it', async () => {
  const refused = new Error('no HTTP')
  const connection = new Connection().begin()
  connection.on('readable', () => undefined)
  const { read } = connection
  connection.read = (size?: number) => {
    const chunk = read.call(connection, size)
    // What a parser does that does not like what it was given.
    if (chunk !== null && size !== 0) connection.destroy(refused)
    return chunk
  }
  connection.push('garbage')
  await runEventLoop()
  expect(connectionFailureOf(refused)).toBe('refused')

  const ended = Object.assign(new Error('other side closed'), { code: 'UND_ERR_SOCKET' })
  const other = new Connection().begin()
  other.push('some')
  other.push(null)
  await runEventLoop()
  other.destroy(ended)
  expect(connectionFailureOf(ended)).toBe('ended')

  const own = Object.assign(new Error('aborted'), { code: 'UND_ERR_INFO' })
  const third = new Connection().begin()
  third.destroy(own)
  expect(connectionFailureOf(own)).toBe(undefined)
})

test('a stream that writes several chunks by its own _write has its callback once', async () => {
  const written: string[] = []
  const socket = patchSocket(
    new Duplex({
      read: () => undefined,
      write(chunk: Buffer, _coding, callback) {
        written.push(chunk.toString())
        // The first write is still under way when the others come: they come as one.
        if (written.length === 1) setImmediate(callback)
        else callback()
      },
      writev(chunks: { chunk: Buffer }[], callback) {
        this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'buffer' as never, callback)
      },
    }),
  )
  let calls = 0
  for (const text of ['a', 'b', 'c']) socket.write(text, () => calls++)
  await new Promise((resolve) => socket.end(resolve))
  expect([written, calls]).toEqual([['a', 'bc'], 3])
})
