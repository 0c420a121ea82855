/** How the end of a connection is told to undici's parser, which may be paused then: without sockets and time. */
import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { patient } from '../src/connector.ts'
import { turns } from './help.ts'

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
    patient(this)
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
  await turns()
  connection.push(null)
  await turns()
  expect(connection.said).toEqual(['some', 'end'])
})

test('end of a connection under a paused parser: told when it has had all', async () => {
  const connection = new Connection().begin()
  connection.push('much')
  await turns()
  connection.push('last')
  connection.push(null)
  await turns()
  expect(connection.said).toEqual(['much'])
  connection.resumeParser()
  await turns()
  expect(connection.said).toEqual(['much', 'last', 'end'])
})

test('end of a connection under a parser that pauses between the end and its telling (Node 24)', async () => {
  const connection = new Connection().begin()
  await turns()
  // It waits, so that the end goes into the stream, which tells it in a later turn.
  connection.readOn()
  connection.push(null)
  connection.parser.paused = true
  await turns()
  expect(connection.said).toEqual([])
  connection.resumeParser()
  await turns()
  expect(connection.said).toEqual(['end'])
})

test('a reset that was taken for an end, while nothing was read, is an error', async () => {
  const connection = new Connection({ localAddress: '127.0.0.1' }).begin()
  connection.push('some')
  await turns()
  connection.push(null)
  await turns()
  expect(connection.said).toEqual(['some', 'read ECONNRESET'])
})

test('a peer that ends after us is no reset, though there is no peer any more', async () => {
  const connection = new Connection({ localAddress: '127.0.0.1' }).begin()
  connection.end()
  connection.push('some')
  await turns()
  connection.push(null)
  await turns()
  expect(connection.said).toEqual(['some', 'end'])
})

test('after an upgrade there is no parser, and the end is told as it comes', async () => {
  const connection = new Connection()
  for (const key of Object.getOwnPropertySymbols(connection)) {
    if (key.description === 'parser') Reflect.deleteProperty(connection, key)
  }
  patient(connection)
  connection.on('end', () => connection.said.push('end'))
  connection.push('some')
  connection.push(null)
  connection.resume()
  await turns()
  expect(connection.said).toEqual(['end'])
})
