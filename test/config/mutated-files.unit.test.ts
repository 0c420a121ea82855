/** Wrong files, made by mutation: each is read or refused, and soon. Units as properties. */

import { describe, expect, it } from 'vitest'
import { findNearest } from '../../src/config/nearest.ts'
import { ConfigError } from '../../src/config/problem.ts'
import fc from '../properties.ts'
import { seededRandom } from '../random.ts'
import { loadText, serviceFile, VALID_FILE } from './config-fixture.ts'

const PIECES = [
  '{',
  '}',
  '[',
  ']',
  ':',
  ': ',
  '- ',
  '\n',
  '\n  ',
  '&a ',
  '*a',
  '*calm',
  '<<: ',
  '!!binary ',
  '!x ',
  '|',
  '>',
  '"',
  "'",
  '#',
  '${',
  '${TOKEN}',
  '}',
  '? ',
  '%YAML 1.1\n---\n',
  '---\n',
  '\t',
  '\u0000',
  '\ufeff',
  '.nan',
  '.inf',
  'null',
  '~',
  '-1',
  '1e999',
  '0x10',
  '0o7',
  '__proto__: ',
  'constructor: 1',
  'x'.repeat(300),
  '😀',
  '\r',
  '\u2028',
  '2001-01-01',
  'yes',
  '9'.repeat(40),
  '1..',
  '..1',
  '\\',
  ',',
  '"\\x',
]

function mutated(text: string, random: () => number): string {
  let result = text
  const times = 1 + Math.floor(random() * 4)
  const any = (length: number) => Math.floor(random() * length)
  for (let i = 0; i < times; i++) {
    const at = any(result.length)
    const piece = PIECES[any(PIECES.length)] as string
    const lines = result.split('\n')
    const line = any(lines.length)
    const other = any(lines.length)
    const kinds = [
      () => result.slice(0, at) + piece + result.slice(at),
      () => result.slice(0, at) + result.slice(at + 1 + any(8)),
      () => result.slice(0, at) + piece + result.slice(at + piece.length),
      () => lines.toSpliced(line, 1).join('\n'),
      () => lines.toSpliced(line, 0, lines[other] as string).join('\n'),
      () => lines.with(line, ` ${lines[line]}`).join('\n'),
      () => lines.with(line, (lines[line] as string).replace(/:.*/, `: ${piece}`)).join('\n'),
      () => lines.with(line, (lines[line] as string).replace(/[a-z]+/i, piece)).join('\n'),
      () => result.slice(0, at),
    ]
    result = (kinds[any(kinds.length)] as () => string)()
  }
  return result
}

describe('1,000 mutated files', () => {
  it('are read or refused: no crash, no hang, no secret', () => {
    const random = seededRandom(20_260_101)
    let wrong = 0
    for (let i = 0; i < 1_000; i++) {
      const text = mutated(VALID_FILE, random)
      const begin = performance.now()
      try {
        loadText(text)
      } catch (error) {
        if (!(error instanceof ConfigError)) throw new Error(`crashed:\n${text}`, { cause: error })
        wrong++
        expect(error.problems.length).toBeGreaterThan(0)
        expect(error.message).not.toContain('hunter2')
        const lines = text.split('\n').length + 1
        const odd = error.problems.find(({ line, column, message, snippet }) => {
          if (line === 0) return !message.includes('it is empty')
          return line > lines || column < 1 || message === '' || !snippet.includes('^')
        })
        expect(odd, text).toBeUndefined()
      }
      expect(performance.now() - begin).toBeLessThan(2_000)
    }
    expect(wrong).toBeGreaterThan(600)
  }, 120_000)

  it.each([
    ...[
      '[',
      '- ',
      '? ',
      '{a: ',
      '"',
      ': ',
      '&a ',
      '*a ',
      '!!x ',
      'key',
      'token: [',
      '${',
      '\n- ',
      '|\n',
      '%',
    ],
    ...[
      'services: ',
      '<<: ',
      "'",
      '\u0000',
      ' ',
      '\t',
      '\r',
      '#',
      'a,',
      '---\n',
      'a: &a *a\n',
      '\n  ',
    ],
  ])('and 15,000 characters of %j are read soon', (piece) => {
    const begin = performance.now()
    const long = piece.repeat(15_000 / piece.length)
    for (const text of [long, `services: {${long}`, `services: {}\nadmin:\n  token: ${long}`]) {
      try {
        loadText(text)
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError)
        expect((error as ConfigError).message.length).toBeLessThan(100_000)
      }
    }
    expect(performance.now() - begin).toBeLessThan(10_000)
  })

  it('and any text at all', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        try {
          loadText(text)
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('units', () => {
  const bodySize = (value: string) =>
    loadText(`services: {}\ngateway: { limits: { bodySize: ${value} } }`).gateway.limits.bodySize
  const timeout = (value: string) =>
    loadText(serviceFile('command: [a]', `timeout: ${value}`)).services[0]?.options.timeout

  it.each<[string, number]>([
    ['1048576', 1_048_576],
    ['"4096"', 4_096],
    ['"${SIZE}"', 4],
    ['2GB', 2e9],
    ['2GiB', 2 ** 31],
    ['2G', 2 ** 31],
    ['512mb', 512e6],
    ['"1.5 KiB"', 1_536],
    ['unlimited', Number.POSITIVE_INFINITY],
  ])('of bytes: %s', (value, bytes) => {
    expect(bodySize(value)).toBe(bytes)
  })

  it.each<[string, number]>([
    ['30', 30],
    ['"30"', 30_000],
    ['"${SIZE}"', 4],
    ['250ms', 250],
    ['1.5m', 90_000],
    ['"01:30:00"', 5_400_000],
    ['"10:00"', 600_000],
    ['1d', 86_400_000],
  ])('of time: %s', (value, ms) => {
    expect(timeout(value)).toBe(ms)
  })

  it('that are not known are refused', () => {
    for (const wrong of ['MiB', '-1MiB', '1constructor', '1 KiB x'])
      expect(() => bodySize(wrong), wrong).toThrow(/must be a whole number/)
    for (const wrong of ['s', '-1s', '1 s', '1w', '1:2:3:4'])
      expect(() => timeout(wrong), wrong).toThrow(/must be milliseconds/)
  })

  it('come back as what was written', () => {
    const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }
    const sizes = { B: 1, kB: 1_000, KiB: 1_024, MiB: 1_048_576, GB: 1e9 }
    const number = fc.integer({ min: 1, max: 10_000 })
    const one = <T extends object>(from: T) =>
      fc.constantFrom(...(Object.entries(from) as [string, number][]))
    fc.assert(
      fc.property(number, one(units), number, one(sizes), number, (t, [u, ms], b, [v, by], c) => {
        const text = serviceFile(
          'command: [a]',
          `timeout: ${t}${u}`,
          `replayLimit: ${b}${v}`,
          `concurrency: ${c}`,
        )
        expect(loadText(text).services[0]?.options).toMatchObject({
          timeout: t * ms,
          replayLimit: b * by,
          concurrency: c,
        })
      }),
    )
  })

  it('texts come back, quoted or substituted', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (value) => {
        // A function, because `$$` in a replacement text stands for one dollar sign.
        const quoted = JSON.stringify(value.replaceAll('${', () => '$${'))
        const text = serviceFile('command: [a]', `env: { A: ${quoted}, B: "\${V}" }`)
        expect(loadText(text, { V: value }).services[0]?.options.env).toEqual({
          A: value,
          B: value,
        })
      }),
    )
  })
})

describe('the nearest name', () => {
  it.each([
    ['concurency', 'concurrency'],
    ['max_size', 'maxSize'],
    ['MINSIZE', 'minSize'],
    ['timeuot', 'timeout'],
    ['reay', 'ready'],
    ['zzz', undefined],
    ['', undefined],
    ['x'.repeat(10_000), undefined],
  ])('of %s is %s', (word, name) => {
    const names = ['concurrency', 'maxSize', 'minSize', 'timeout', 'ready', 'env']
    expect(findNearest(word, names)).toBe(name)
  })
})
