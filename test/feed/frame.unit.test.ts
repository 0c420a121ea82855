/** The wire, byte for byte: a transcript of the original's, every split of it, and any other stream. */

import { describe, expect, it } from 'vitest'
import {
  authFrame,
  decodeText,
  errorFrame,
  FrameError,
  FrameParser,
  hashSecret,
  infoFrame,
  MAX_BODY_BYTES,
  publishFrame,
  publishPrefix,
  readShortText,
  subscribeFrame,
  unsubscribeFrame,
} from '../../src/feed/frame.ts'
import fc from '../properties.ts'

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex')

/** Recorded of the original's broker and client: name `testbroker`, ident `alice`, secret `s3cret`, channel `ch1`. */
const GOLDEN = {
  info: hex('00000014 01 0a 7465737462726f6b6572 08ccd243'),
  auth: hex('0000001f 02 05 616c696365 4b7312cac6f2ee0b777793be1759c2859a32ef1e'),
  subscribe: hex('0000000e 04 05 616c696365 636831'),
  publish: hex('00000016 03 05 616c696365 03 636831 7b2278223a317d'),
  unsubscribe: hex('0000000e 05 05 616c696365 636831'),
}
const TRANSCRIPT = Buffer.concat(Object.values(GOLDEN))

/** All frames that come out of these chunks. */
function parse(chunks: readonly Buffer[], limit = Number.POSITIVE_INFINITY): Buffer[] {
  const frames: Buffer[] = []
  const parser = new FrameParser((opcode, bytes, start, end) => {
    expect(opcode).toBe(bytes[start + 4])
    frames.push(Buffer.from(bytes.subarray(start, end)))
  })
  parser.maxFrameBytes = limit
  for (const chunk of chunks) parser.push(chunk)
  return frames
}

function header(length: number, opcode: number): Buffer {
  const bytes = Buffer.alloc(5)
  bytes.writeInt32BE(length)
  bytes[4] = opcode
  return bytes
}

describe('encoding', () => {
  it('is the golden transcript', () => {
    const nonce = hex('08ccd243')
    expect(infoFrame('testbroker', nonce)).toEqual(GOLDEN.info)
    expect(authFrame('alice', hashSecret(nonce, 's3cret'))).toEqual(GOLDEN.auth)
    expect(subscribeFrame('alice', 'ch1')).toEqual(GOLDEN.subscribe)
    expect(publishFrame(publishPrefix('alice', 'ch1'), '{"x":1}')).toEqual(GOLDEN.publish)
    expect(unsubscribeFrame('alice', 'ch1')).toEqual(GOLDEN.unsubscribe)
    expect(errorFrame('no')).toEqual(hex('00000007 00 6e6f'))
  })

  it('takes names of 255 bytes and refuses those of 256', () => {
    expect(publishPrefix('x'.repeat(255), 'é'.repeat(127))).toHaveLength(256 + 255)
    expect(() => publishPrefix('x'.repeat(256), 'y')).toThrow(FrameError)
    expect(() => authFrame('é'.repeat(128), Buffer.alloc(20))).toThrow(FrameError)
  })

  it('takes the longest payload and refuses one byte more', () => {
    const prefix = publishPrefix('a', 'b')
    const most = MAX_BODY_BYTES - prefix.length
    expect(publishFrame(prefix, Buffer.alloc(most))).toHaveLength(1_048_581)
    expect(() => publishFrame(prefix, Buffer.alloc(most + 1))).toThrow(/too long/)
  })
})

describe('parsing', () => {
  it('finds the transcript at every split in two', () => {
    for (let at = 0; at <= TRANSCRIPT.length; at++) {
      const frames = parse([TRANSCRIPT.subarray(0, at), TRANSCRIPT.subarray(at)])
      expect(frames).toEqual(Object.values(GOLDEN))
    }
  })

  it('finds the transcript byte by byte, and glued', () => {
    expect(parse([...TRANSCRIPT].map((byte) => Buffer.of(byte)))).toEqual(Object.values(GOLDEN))
    expect(parse([Buffer.concat([TRANSCRIPT, TRANSCRIPT])])).toHaveLength(10)
  })

  it('does not copy what comes whole', () => {
    const seen: Buffer[] = []
    new FrameParser((_, bytes) => seen.push(bytes)).push(TRANSCRIPT)
    expect(seen.every((bytes) => bytes === TRANSCRIPT)).toBe(true)
  })

  it('weakness 1: refuses a length of 0, 1, 4 or below 0, before an opcode too', () => {
    for (const length of [0, 1, 4, -1, -2_147_483_648]) {
      expect(() => parse([header(length, 3)]), String(length)).toThrow(FrameError)
      expect(() => parse([header(length, 3).subarray(0, 4)]), String(length)).toThrow(FrameError)
      const bytes = [...header(length, 3)].map((byte) => Buffer.of(byte))
      expect(() => parse(bytes), String(length)).toThrow(FrameError)
    }
  })

  it('has the upper bounds of the original', () => {
    const most = [1_048_581, 281, 281, 1_048_581, 1_048_576, 1_048_576]
    for (const [opcode, length] of most.entries()) {
      expect(parse([header(length, opcode)])).toEqual([])
      expect(() => parse([header(length + 1, opcode)]), String(opcode)).toThrow(FrameError)
    }
    expect(() => parse([header(5, 6)])).toThrow(/opcode 6, which does not exist/)
  })

  it('takes a frame of the longest length, in pieces', () => {
    const whole = publishFrame(publishPrefix('a', 'b'), Buffer.alloc(MAX_BODY_BYTES - 4, 7))
    const pieces = Array.from({ length: 17 }, (_, i) =>
      whole.subarray(i * 65_536, (i + 1) * 65_536),
    )
    const [frame] = parse(pieces)
    expect(frame?.equals(whole)).toBe(true)
  })

  it('holds to a lower limit while there is one', () => {
    expect(() => parse([header(282, 3)], 281)).toThrow(FrameError)
  })

  it('tells nothing after stop', () => {
    const frames: number[] = []
    const parser = new FrameParser((opcode) => {
      frames.push(opcode)
      parser.stop()
    })
    parser.push(TRANSCRIPT)
    parser.push(TRANSCRIPT)
    expect(frames).toEqual([1])
  })

  it('refuses texts that are not UTF-8, or longer than their frame', () => {
    expect(() => decodeText(hex('ff'), 0, 1)).toThrow(FrameError)
    expect(() => readShortText(hex('05 61'), 0, 2)).toThrow(FrameError)
    expect(() => readShortText(hex('05'), 1, 1)).toThrow(FrameError)
    expect(readShortText(hex('00 61'), 0, 2)).toEqual({ text: '', end: 1 })
  })
})

describe('properties', () => {
  const name = fc.string({ unit: 'binary', maxLength: 40 })
  const message = fc.tuple(name, name, fc.uint8Array({ maxLength: 300 }))

  it('what is encoded is parsed, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 40 }),
        (messages, cuts) => {
          const frames = messages.map(([ident, channel, payload]) =>
            publishFrame(publishPrefix(ident, channel), payload),
          )
          const stream = Buffer.concat(frames)
          const chunks: Buffer[] = []
          for (let at = 0, turn = 0; at < stream.length; turn++) {
            const next = at + (cuts[turn % cuts.length] as number)
            chunks.push(stream.subarray(at, next))
            at = next
          }
          const parsed = parse(chunks)
          expect(parsed.map((frame) => frame.toString('hex'))).toEqual(
            frames.map((frame) => frame.toString('hex')),
          )
          for (const [index, frame] of parsed.entries()) {
            const ident = readShortText(frame, 5, frame.length)
            const channel = readShortText(frame, ident.end, frame.length)
            const [wantedIdent, wantedChannel, payload] = messages[index] as (typeof messages)[0]
            expect([ident.text, channel.text]).toEqual([wantedIdent, wantedChannel])
            expect(frame.subarray(channel.end).equals(payload)).toBe(true)
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  it('any bytes are frames or a FrameError, and what is held is bounded', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 30 }), (chunks) => {
        const parser = new FrameParser(() => undefined)
        try {
          for (const chunk of chunks) parser.push(Buffer.from(chunk))
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError)
        }
        expect(parser.heldBytes).toBeLessThanOrEqual(30 * 64)
      }),
      { numRuns: 300 },
    )
  })
})
