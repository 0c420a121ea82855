/** Every form of a template, what is none, and that no template can do anything else. */

import { describe, expect, it } from 'vitest'
import { compileExpression } from '../../../src/tasks/text/expression.ts'
import { ExpressionError } from '../../../src/tasks/text/expression-operators.ts'
import { takeSlice } from '../../../src/tasks/text/python-slice.ts'
import { compileTemplate, TemplateError } from '../../../src/tasks/text/template.ts'
import fc from '../../properties.ts'

const fill = (template: string, args: string, more = {}) =>
  compileTemplate(template).expand({ args, ...more })

describe('paths', () => {
  it.each([
    ['{}', '/a/b/c.tar.gz', '/a/b/c.tar.gz'],
    ['{.}', '/a/b/c.tar.gz', '/a/b'],
    ['{..}', '/a/b/c.tar.gz', '/a'],
    ['{/}', '/a/b/c.tar.gz', 'c.tar.gz'],
    ['{/-}', '/a/b/c.tar.gz', 'c.tar'],
    ['{-}', '/a/b/c.tar.gz', '/a/b/c.tar'],
    ['{+}', '/a/b/c.tar.gz', '.gz'],
    ['{++}', '/a/b/c.tar.gz', 'gz'],
    ['{.}|{+}|{-}', 'plain', '.||plain'],
    ['a {} b {} c', 'x', 'a x b x c'],
    ['{}', '$& $1 {}', '$& $1 {}'],
  ])('%s of %s', (template, args, expected) => {
    expect(fill(template, args)).toBe(expected)
  })
})

describe('slices', () => {
  it.each([
    ['{[0]}', 'a'],
    ['{[-1]}', 'd'],
    ['{[1:3]}', 'b c'],
    ['{[:-1]}', 'a b c'],
    ['{[-2:]}', 'c d'],
    ['{[::2]}', 'a c'],
    ['{[::-1]}', 'd c b a'],
    ['{[-1:0:-2]}', 'd b'],
    ['{[9:]}', ''],
    ['{[ 1 : 2 ]}', 'b'],
  ])('%s of four words', (template, expected) => {
    expect(fill(template, ' a  b\tc d ')).toBe(expected)
  })

  it('fails for a word that is not there, and for a step of 0', () => {
    expect(() => fill('{[4]}', 'a b')).toThrow(/the line has 2 words: "a b"/)
    expect(() => fill('{[-3]}', 'a b')).toThrow(TemplateError)
    expect(() => compileTemplate('{[::0]}')).toThrow(/step/)
  })

  it('agrees with a slow slice of Python', () => {
    const bound = fc.option(fc.integer({ min: -8, max: 8 }), { nil: undefined })
    const step = fc.integer({ min: -4, max: 4 }).filter((k) => k !== 0)
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 7 }), bound, bound, step, (list, i, j, k) => {
        const n = list.length
        const norm = (v: number) => (v < 0 ? v + n : v)
        const picked: number[] = []
        // Each index that Python's rule reaches, by walking far beyond both ends.
        const from =
          i === undefined
            ? k > 0
              ? 0
              : n - 1
            : k > 0
              ? Math.max(norm(i), 0)
              : Math.min(norm(i), n - 1)
        const to = j === undefined ? (k > 0 ? n : -1) : norm(j)
        for (let at = from; k > 0 ? at < Math.min(to, n) : at > Math.max(to, -1); at += k) {
          const one = list[at]
          if (one !== undefined) picked.push(one)
        }
        expect(takeSlice(list, i, j, k)).toEqual(picked)
      }),
    )
  })
})

describe('what is no form stays', () => {
  it.each([
    "awk '{print $1}'",
    '{a,b}',
    '{1..3}',
    `$\{HOME}`,
    '{[a-z]}',
    '{ }',
    '{{}',
    '{%',
    '{=',
    '{:x}',
    'find -exec {x} \\;',
  ])('%s', (template) => {
    const expected = template === '{{}' ? '{line' : template
    expect(fill(template, 'line')).toBe(expected)
  })
})

describe('tags and the place', () => {
  it('are filled in where they are known', () => {
    expect(fill('{site} {slot} {other}', 'x', { tag: { site: 'a' }, slot: 3 })).toBe('a 3 {other}')
    expect(() => fill('{slot}', 'x')).toThrow(/has no slot/)
  })

  it('are not read from the prototype', () => {
    expect(fill('{constructor}', 'x', { tag: {} })).toBe('{constructor}')
  })
})

describe('{% %}', () => {
  it('is given the line for @, and loses newlines at its end', async () => {
    const shell = async (command: string) => `<${command}>\n\n`
    expect(await fill('a {% basename @ %} b', 'x/y', { shell })).toBe('a <basename x/y> b')
  })

  it('fails with what the shell said, and where there is no shell', async () => {
    const shell = () => Promise.reject(new Error('exit status 3'))
    await expect(fill('{% x %}', 'l', { shell })).rejects.toThrow('{% x %}: exit status 3')
    await expect(async () => fill('{% x %}', 'l')).rejects.toThrow(/are not run here/)
    expect(() => compileTemplate('{% %}')).toThrow(TemplateError)
  })
})

describe('{= =}', () => {
  it.each([
    ['x + 1', '41', '42'],
    ['x * 2 + 0.5', '3', '6.5'],
    ['x // 2', '-7', '-4'],
    ['-7 % 3 + x', '0', '2'],
    ['2 ** 3 ** 2', '0', '512'],
    ['x > 3 ? "big" : "small"', '4', 'big'],
    ['x >= 2 and not (x == 3) or False', '3', 'False'],
    ['os.path.basename(x)', '/a/b.c', 'b.c'],
    ['os.path.join(os.path.dirname(x), "out", "z")', '/a/b.c', '/a/out/z'],
    ['os.path.splitext(x)[0]', '/a/b.c', '/a/b'],
    ['path.splitext(x)[-1]', '/a/b.c', '.c'],
    ['math.floor(math.sqrt(x))', '17', '4'],
    ['round(math.pi * x, 2)', '1', '3.14'],
    ['round(x)', '2.5', '2'],
    ['x.upper().replace("A", "o")', 'banana', 'BoNoNo'],
    ['x.split(",")[1].strip()', 'a, b ,c', 'b'],
    ['"-".join(x.split())', 'a  b', 'a-b'],
    ['str(x).zfill(4)', '7', '0007'],
    ['"a" in x', 'cat', 'True'],
    ['len(x)', 'héé', '3'],
    ['int(x) + 1', '0x10', '17'],
    ['"n" + x', '7', 'n7'],
    ['"ab" * 3 + x', 'c', 'abababc'],
    ['None', '1', 'None'],
  ])('%s of %s', (expression, args, expected) => {
    expect(fill(`{= ${expression} =}`, args)).toBe(expected)
  })

  it.each([
    ['x.constructor', /value has no property|no 'x.constructor'/],
    ['x.constructor("return 1")()', /no function/],
    ['this', /cannot have a ThisExpression|no 'this'/],
    ['process.exit()', /no function/],
    ['globalThis', /no 'globalThis'/],
    ['__proto__', /no '__proto__'/],
    ['x["length"]', /whole number/],
    ['y + 1', /no 'y'/],
    ['1 / 0', /division by zero/],
    ['10 ** 999', /finite/],
    ['x - 1', /needs numbers/],
    ['x[99]', /beyond/],
    ['1 2', /several|Unexpected/],
    ['math.sqrt(-1)', /finite/],
    ['"a" * 99999999', /longer/],
    ['str', /is a function/],
    ['x.zfill(999999999)', /at most/],
  ])('%s is refused', (expression, message) => {
    expect(() => fill(`{= ${expression} =}`, 'abc')).toThrow(message)
    expect(() => fill(`{= ${expression} =}`, 'abc')).toThrow(TemplateError)
  })

  it('has bounded steps and sizes', () => {
    const deep = `${'('.repeat(4_000)}1${')'.repeat(4_000)}`
    try {
      compileExpression(deep).evaluate({})
    } catch (error) {
      expect(error).toBeInstanceOf(ExpressionError)
    }
    const doubling = '("a" * 1000000).replace("a", "bb")'
    expect(() => compileExpression(doubling).evaluate({})).toThrow(/too long/)
    expect(() => compileExpression(`${'1+'.repeat(4_990)}1`).evaluate({})).not.toThrow(TypeError)
  })
})

describe('any template', () => {
  it('gives text or a TemplateError, and quickly', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '{}',
      '{=',
      '=}',
      '{[',
      ']}',
      'x',
      '-',
      '+',
      '(',
      ')',
      '.',
      '1',
      '{-',
      '"',
      '[',
      ']',
      ' ',
    )
    const any = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 20 }).map((parts) => parts.join('')),
    )
    fc.assert(
      fc.property(any, fc.string(), (template, args) => {
        try {
          expect(typeof fill(template, args, { slot: 1 })).toMatch(/string|object/)
        } catch (error) {
          expect(error).toBeInstanceOf(TemplateError)
        }
      }),
      { numRuns: 3_000 },
    )
  })

  it('and what it makes have a length, which may be reached', () => {
    const line = 'x'.repeat(2 ** 20)
    expect(fill('{}{}{}{}', line)).toHaveLength(2 ** 22)
    expect(() => fill('{}{}{}{}.', line)).toThrow(/at most 4194304 characters/)
    expect(compileTemplate(line).text).toBe(line)
    expect(() => compileTemplate(`${line}.`)).toThrow(/at most 1048576 characters/)
    expect(() => fill('{= 1 + =}', 'x')).toThrow(TemplateError)
    expect(fill('{= x.replace("x", "xx").join(["", ""]) =}', 'x'.repeat(2 ** 19))).toBe(line)
    expect(fill('{= x.join(["", "a"]) =}', line.slice(1))).toHaveLength(2 ** 20)
    expect(() => fill('{= x.join(["", "ab"]) =}', line.slice(1))).toThrow(/too long/)
    expect(() => fill('{= x.replace("x", "xx") =}', line)).toThrow(/too long/)
    expect(fill('{= x =}', line)).toBe(line)
    expect(() => fill('{= x =}', `${line}x`)).toThrow(/a value is larger than 1048576/)
  })

  it('of plain braces costs no more than its length', () => {
    const template = '{['.repeat(100_000)
    expect(fill(template, 'x')).toBe(template)
    expect(fill('{%'.repeat(50_000), 'x')).toBe('{%'.repeat(50_000))
  })
})
