/** How the one end of a tunnel follows the end of the other, with ends that do as the test says. */
import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { joinStreams } from '../../src/gateway/tunnel.ts'
import { useFalseClock } from '../clock.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** A tunnel whose second end takes nothing until the test says so. */
function tunnel() {
  useFalseClock()
  const taking: (() => void)[] = []
  const one = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() })
  const other = new Duplex({
    read: () => undefined,
    write: (_chunk, _encoding, done) => void taking.push(done),
  })
  joinStreams(one, other, 60_000)
  return { one, other, take: () => taking.shift()?.() }
}

test('what an end sent before it ended and closed arrives; then the other end is closed at once', async () => {
  const { one, other, take } = tunnel()
  one.push('the last words')
  one.push(null)
  await runEventLoop(3)
  one.destroy()
  await runEventLoop(3)
  expect(other.destroyed).toBe(false)
  take()
  await runEventLoop(3)
  expect([other.writableFinished, other.destroyed]).toEqual([true, true])
})

test('an end that closes without having ended closes the other at once', async () => {
  const { one, other } = tunnel()
  one.push('half a')
  await runEventLoop(3)
  one.destroy()
  await runEventLoop(3)
  expect(other.destroyed).toBe(true)
})
