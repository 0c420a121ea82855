/** PacketParser: bounds, every split, and blobs between them. */

import { describe, expect, it, vi } from 'vitest'
import { formatPacket, PacketParser } from '../../src/wire/frames.ts'
import { catchThrown } from '../help.ts'
import fc from '../properties.ts'

// They only compute: on a machine that does much else they take as long as it takes.
vi.setConfig({ testTimeout: 300_000 })

/** What one stream of packets and raw blobs is read as, however it was cut. */
function readAll(
  frames: PacketParser,
  chunks: readonly Buffer[],
  blobs: readonly number[],
): string[] {
  const seen: string[] = []
  const sizes = [...blobs]
  let due: { left: number; text: string } | undefined
  for (const chunk of chunks) {
    frames.push(chunk)
    for (;;) {
      if (due && due.left > 0) {
        const bytes = frames.readBytes(due.left)
        if (!bytes) break
        due.left -= bytes.length
        due.text += bytes.toString('latin1')
        if (due.left > 0) continue
        seen.push(`raw ${due.text}`)
        due = undefined
        continue
      }
      const read = frames.readPacket()
      if (!read) break
      seen.push(`${read.direction} ${read.bytes ?? read.text}`)
      if (read.text.startsWith('put')) due = { left: sizes.shift() ?? 0, text: '' }
    }
  }
  return seen
}

const STREAM = Buffer.from(
  `${formatPacket('co_begin', '101')}${formatPacket('', 'put(5)')}[3#]]${formatPacket('', '')}${formatPacket('', 'naïve \u{1f600}')}${formatPacket('co_end', '101')}`,
)
const SEEN = ['co_begin 101', ' put(5)', 'raw [3#]]', ' ', ' naïve \u{1f600}', 'co_end 101']

describe('frames', () => {
  it('are the same at every split', () => {
    for (let at = 0; at <= STREAM.length; at++) {
      const cut = [STREAM.subarray(0, at), STREAM.subarray(at)]
      expect(readAll(new PacketParser(1_024), cut, [5]), `cut at ${at}`).toEqual(SEEN)
    }
    const bytes = [...STREAM].map((byte) => Buffer.of(byte))
    expect(readAll(new PacketParser(1_024), bytes, [5])).toEqual(SEEN)
  })

  it('are the same at any splits of any packets', () => {
    const packets = fc.array(
      fc.tuple(fc.constantFrom('', 'co_recv', 'co_send'), fc.string({ maxLength: 200 })),
      { maxLength: 12 },
    )
    fc.assert(
      fc.property(
        packets,
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
        (all, steps) => {
          const texts = all.map(([dir, text]) => [dir, text.replaceAll('put', 'get')] as const)
          const stream = Buffer.from(texts.map(([dir, text]) => formatPacket(dir, text)).join(''))
          const chunks: Buffer[] = []
          for (let at = 0, i = 0; at < stream.length; i++) {
            const step = steps[i % steps.length] as number
            chunks.push(stream.subarray(at, at + step))
            at += step
          }
          expect(readAll(new PacketParser(1_024), chunks, [])).toEqual(
            texts.map(([dir, text]) => `${dir} ${text}`),
          )
        },
      ),
      { numRuns: 500 },
    )
  })

  it('carry blobs of any length in packets, piece by piece, without copying', () => {
    const frames = new PacketParser(1_024)
    frames.isFramed = true
    const chunk = Buffer.from(`[0#blob][5#blob]HELLO${formatPacket('', 'x')}`)
    frames.push(chunk.subarray(0, 18))
    const first = frames.readPacket()
    expect([first?.direction, String(first?.bytes)]).toEqual(['blob', 'HE'])
    expect(first?.bytes?.buffer).toBe(chunk.buffer)
    expect(frames.readPacket()).toBeUndefined()
    expect(frames.isMidPacket).toBe(true)
    frames.push(chunk.subarray(18))
    expect(String(frames.readPacket()?.bytes)).toBe('LLO')
    expect(frames.readPacket()?.text).toBe('x')
    expect(frames.isMidPacket).toBe(false)
  })

  it.each([
    ['[-1#]x', /must be "\[<decimal bytes>/],
    ['[#]x', /must be "\[<decimal bytes>/],
    ['[1_0#]x', /must be "\[<decimal bytes>/],
    ['[ 1#]x', /must be "\[<decimal bytes>/],
    ['[1.5#]x', /must be "\[<decimal bytes>/],
    ['[99999999999999999999#]', /must be "\[<decimal bytes>/],
    ['[1]x', /must be "\[<decimal bytes>/],
    ['x[1#]', /must begin with "\[", got "x\[1#\]"/],
    [`[1#${'d'.repeat(60)}]x`, /must end within 60 bytes/],
    ['['.padEnd(60, '1'), /must end within 60 bytes/],
  ])('refuse %s', (text, message) => {
    const frames = new PacketParser(1_024)
    frames.push(Buffer.from(text))
    const error = catchThrown(() => frames.readPacket())
    expect(error.code).toBe('MANYHOST_WIRE_PROTOCOL')
    expect(error.message).toMatch(message)
  })

  it('weakness 4: a packet of no bytes is a packet, and what follows is not lost', () => {
    const frames = new PacketParser(1_024)
    frames.push(Buffer.from('[0#]a-is-no-packet'.replace('a-is-no-packet', '[1#]x')))
    expect(frames.readPacket()).toMatchObject({ direction: '', text: '' })
    expect(frames.readPacket()).toMatchObject({ direction: '', text: 'x' })
  })

  it('weakness 6: a length above the limit is refused before any memory is taken for it', () => {
    const frames = new PacketParser(1_024)
    frames.push(Buffer.from('[999999999999#]'))
    expect(catchThrown(() => frames.readPacket()).code).toBe('MANYHOST_WIRE_LIMIT')
  })

  it('refuse text that is no UTF-8, but not the replacement character', () => {
    const frames = new PacketParser(1_024)
    frames.push(Buffer.from(formatPacket('', '\ufffd')))
    expect(frames.readPacket()?.text).toBe('\ufffd')
    frames.push(Buffer.from([0x5b, 0x31, 0x23, 0x5d, 0xff]))
    expect(catchThrown(() => frames.readPacket()).message).toMatch(/not UTF-8/)
  })

  it('gather single bytes in a few buffers', () => {
    const frames = new PacketParser(1_048_576)
    frames.push(Buffer.from('[1000000#]'))
    frames.readPacket()
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 1_000_000; i++) frames.push(Buffer.of(0x61))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64_000_000)
    expect(frames.readPacket()?.text.length).toBe(1_000_000)
  })

  it('are never read as anything but packets or typed errors, whatever comes', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
            fc.stringMatching(/^[[\]#0-9a-z_]{0,30}$/).map((text) => Buffer.from(text)),
          ),
        ),
        fc.boolean(),
        (chunks, isFramed) => {
          const frames = new PacketParser(1_024)
          frames.isFramed = isFramed
          try {
            for (const chunk of chunks) {
              frames.push(chunk)
              while (frames.readPacket());
            }
          } catch (error) {
            expect((error as { code: string }).code).toMatch(/^MANYHOST_WIRE_(PROTOCOL|LIMIT)$/)
          }
        },
      ),
      { numRuns: 2_000 },
    )
  })
})
