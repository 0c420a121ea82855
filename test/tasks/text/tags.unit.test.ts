/** One reading of tags: every way to write one, and the one way to find it. */

import { describe, expect, it } from 'vitest'
import type { Tags } from '../../../src/tasks/model/task.ts'
import { parseDirectives } from '../../../src/tasks/text/directives.ts'
import { parseJson, toJson } from '../../../src/tasks/text/exact-json.ts'
import { readTasks } from '../../../src/tasks/text/source.ts'
import {
  checkTags,
  findTagsProblem,
  MAX_TAGS,
  parseTag,
  parseTagFilter,
  parseTags,
  tagsFromJson,
  tagsToJson,
  toExactTags,
} from '../../../src/tasks/text/tags.ts'
import fc from '../../properties.ts'

const ALPHABET = [...'ABXYZabcetruefalsnull0123456789_.+-']
const key = fc
  .oneof(
    fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', '-', '0'),
    fc.string({ unit: fc.constantFrom(...ALPHABET), minLength: 1, maxLength: 120 }),
  )
  // In a directive these are no tags.
  .filter((name) => !['cores', 'memory', 'timeout', 'group'].includes(name))
/** Most of them look like numbers. */
const value = fc.oneof(
  fc.constantFrom(
    '',
    '-0',
    '0',
    '00',
    '1.0',
    '1.10',
    '1.1',
    '1e3',
    '1E3',
    '1e+21',
    '-',
    '.5',
    '5.',
  ),
  fc.constantFrom('true', 'True', 'null', 'None', 'NaN', 'Infinity', '-Infinity', '0x10', '1_000'),
  fc.constantFrom('9007199254740991', '9007199254740992', '9007199254740993', '-9007199254740993'),
  fc.string({ unit: fc.constantFrom(...'0123456789.+-e'), maxLength: 24 }),
  fc.string({ unit: fc.constantFrom(...'0123456789'), maxLength: 120 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.string({ unit: fc.constantFrom(...ALPHABET), maxLength: 120 }),
)

/** Whether a filter of this text fits these tags, as the store decides it: by the JSON that it keeps. */
function finds(text: string, tags: Tags): boolean {
  const { key, values } = parseTagFilter(text)
  const kept = tagsFromJson(tagsToJson(tags))
  if (!Object.hasOwn(kept, key)) return false
  return values === undefined || values.includes(toJson(kept[key]))
}

async function fromJson(text: string): Promise<Tags> {
  for await (const { tag = {} } of readTasks([text], { kind: 'json' })) return tag
  throw new Error('no task')
}

describe('every tag text that can be written', () => {
  it('is found by its own text and by no other, whichever way it was written', async () => {
    await fc.assert(
      fc.asyncProperty(key, value, value, async (name, own, other) => {
        const written = [
          parseTags([`${name}:${own}`]),
          parseDirectives(`${name}:${own}`).tag as Tags,
          checkTags(Object.fromEntries([[name, own]])),
          await fromJson(`{"args":"x","tag":{${JSON.stringify(name)}:${JSON.stringify(own)}}}`),
        ]
        for (const tags of written) {
          expect(finds(`${name}:${own}`, tags)).toBe(true)
          expect(finds(name, tags)).toBe(true)
          expect(finds(`${name}:${other}`, tags)).toBe(other === own)
          // What a template gives for it is its text.
          expect(String(tagsFromJson(tagsToJson(tags))[name] ?? 'null')).toBe(own)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('is the same after any number of ways through the store', () => {
    fc.assert(
      fc.property(key, value, (name, own) => {
        const once = tagsToJson(parseTags([`${name}:${own}`]))
        expect(tagsToJson(tagsFromJson(once))).toBe(once)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('numbers', () => {
  it('that are whole are kept exactly, as numbers, through JSON lines and the store', async () => {
    await fc.assert(
      fc.asyncProperty(
        // A value has at most 120 characters, and so has the next number, which the body looks for.
        fc.bigInt({ min: -(10n ** 119n) + 1n, max: 10n ** 120n - 2n }),
        async (n) => {
          const tags = await fromJson(`{"args":"x","tag":{"seed":${n}}}`)
          expect(tagsToJson(tags)).toBe(`{"seed":${n}}`)
          expect(String(tagsFromJson(tagsToJson(tags)).seed)).toBe(String(n))
          expect(finds(`seed:${n}`, tags)).toBe(true)
          expect(finds(`seed:${n + 1n}`, tags)).toBe(false)
        },
      ),
    )
  })

  it('that a program hands in are kept exactly, too', () => {
    for (const number of [2 ** 53, 2 ** 60, -(2 ** 64), 1e20, 1e21, 1e300, 0.1, 5e-324]) {
      const kept = tagsFromJson(tagsToJson({ n: number })).n
      expect(Number(kept)).toBe(number)
      if (Number.isInteger(number) && Math.abs(number) < 1e21) {
        expect(String(kept)).toBe(BigInt(number).toString())
      }
      expect(tagsFromJson(tagsToJson({ n: kept as number })).n).toBe(kept)
    }
    const plain = { a: 1, b: 'x' }
    expect(toExactTags(plain)).toBe(plain)
  })

  it.each([
    ['1.10', '1.10'],
    ['-0', '-0'],
    ['1.0', '1.0'],
    ['007', '007'],
    ['1e3', '1e3'],
    ['7', 7],
    ['-1.5', -1.5],
    ['9007199254740993', 9007199254740993n],
    ['true', true],
    ['null', null],
    ['True', 'True'],
  ])('%s is read as what has this text', (text, expected) => {
    expect(parseTag(`x:${text}`)).toEqual(['x', expected])
  })
})

describe('limits', () => {
  it('are the same for all ways in', async () => {
    const many = (count: number): Tags =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]))
    expect(findTagsProblem(many(MAX_TAGS))).toBeUndefined()
    expect(findTagsProblem(many(MAX_TAGS + 1))).toMatch(/at most 1000/)
    const words = Object.keys(many(MAX_TAGS + 1)).join(' ')
    expect(() => parseDirectives(words)).toThrow(/at most 1000/)
    expect(() => parseTags(words.split(' '))).toThrow(/at most 1000/)
    await expect(fromJson(toJson({ args: 'x', tag: many(MAX_TAGS + 1) }))).rejects.toThrow(
      /at most 1000/,
    )
  })

  it.each(['', 'a b:1', 'x:a b', 'x:ä', `${'k'.repeat(121)}:1`, `x:${'1'.repeat(121)}`, 'x:a:b'])(
    '%s is no tag, and no filter',
    (text) => {
      expect(() => parseTag(text)).toThrow(/tag/)
      expect(() => parseTagFilter(text)).toThrow(/tag/)
    },
  )

  it('hold for numbers, which are written as text somewhere', () => {
    expect(findTagsProblem({ n: 10n ** 119n })).toBeUndefined()
    expect(findTagsProblem({ n: 10n ** 120n })).toMatch(/up to 120/)
    expect(findTagsProblem({ n: Number.POSITIVE_INFINITY })).toMatch(/up to 120/)
  })
})

describe('JSON with whole numbers that no double has', () => {
  it('is read as JSON.parse reads it, but for these', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        const plain = JSON.parse(text)
        const exact = parseJson(text)
        const rounded = JSON.parse(toJson(exact))
        expect(JSON.stringify(rounded)).toBe(JSON.stringify(plain))
      }),
    )
  })

  it('keeps their digits wherever they stand, and leaves texts with digits alone', () => {
    const text =
      '{"a":[9007199254740993,-12345678901234567890],"b":{"9007199254740993":"9007199254740993"},"c":1e+300,"d":0.1,"e":"\\"9007199254740993"}'
    expect(toJson(parseJson(text))).toBe(text)
    expect(() => parseJson('{"a":9007199254740993')).toThrow(SyntaxError)
    expect(() => parseJson('{"a":09007199254740993}')).toThrow(SyntaxError)
  })

  it('is read in one go, however long its texts are', () => {
    const long = { n: 1, s: '\\"\n'.repeat(1_000_000), t: 'x'.repeat(4_000_000) }
    const text = JSON.stringify(long).replace('"n":1', '"n":9007199254740993')
    expect(parseJson(text)).toEqual({ ...long, n: 9007199254740993n })
  })
})
