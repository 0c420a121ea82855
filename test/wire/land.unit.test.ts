/** Landing: what code may say, and that nothing else happens. */

import { describe, expect, it, vi } from 'vitest'
import { code, reactor, repr } from '../../src/wire/index.ts'
import { land as landIn } from '../../src/wire/land.ts'
import { LandingEnvironment } from '../../src/wire/names.ts'
import { catchThrown } from '../help.ts'
import fc from '../properties.ts'

// They only compute: on a machine that does much else they take as long as it takes.
vi.setConfig({ testTimeout: 300_000 })

function land(
  text: string,
  names: Record<string, unknown> = { f: (...args: unknown[]) => args, version: 3 },
) {
  return landIn(text, new LandingEnvironment(names), (call) => call())
}

describe('literals', () => {
  it.each<[string, unknown]>([
    [
      'f(1, -2, +3, 1.5, 1e3, .5, 5., 0x1F, 0b101, 0o17, 1_000)',
      [1, -2, 3, 1.5, 1000, 0.5, 5, 31, 5, 15, 1000],
    ],
    [
      'f(123456789012345678901234567890, -9007199254740993)',
      [123456789012345678901234567890n, -9007199254740993n],
    ],
    ['f(inf, -inf, nan, NaN, 1e999)', [Infinity, -Infinity, NaN, NaN, Infinity]],
    ['f(None, True, False, null, true, false, nil)', [null, true, false, null, true, false, null]],
    [`f('a"b', "a'b", 'it\\'s', "\\"")`, ['a"b', "a'b", "it's", '"']],
    [String.raw`f('\n\r\t\\\x41\u00e9\U0001f600\101\q')`, ['\n\r\t\\A\u00e9\u{1f600}A\\q']],
    [String.raw`f("\ud83d\ude00", 'a' 'b' "c", r'\n', u'x')`, ['\u{1f600}', 'abc', '\\n', 'x']],
    [
      String.raw`f(b'\x00\xff', b"a\n\\", rb'\n')`,
      [Buffer.from([0, 255]), Buffer.from('a\n\\'), Buffer.from('\\n')],
    ],
    ['f([1, [2,],], (1,), (), (1), (1, 2))', [[1, [2]], [1], [], 1, [1, 2]]],
    [
      'f({\'a\': 1, "b": {}}, {1: 2}, {1, 2}, set())',
      [{ a: 1, b: {} }, new Map([[1, 2]]), new Set([1, 2]), new Set()],
    ],
    ["f('a', size=5, name='x')", ['a', { size: 5, name: 'x' }]],
    [
      'f(JSONObj({"a": [true]}), JSONArray([1]), JSONStr("s"), version)',
      [{ a: [true] }, [1], 's', 3],
    ],
    ['f(\n  1, # one\n  2\n)\n', [1, 2]],
    ["f('''a\nb''', \"\"\"c'd\"\"\")", ['a\nb', "c'd"]],
    ['version', 3],
    ['1 + 1', 2],
    ['1;2\n3', 3],
    ['', undefined],
    ["my_name = 'Nick'\nf(my_name)", ['Nick']],
    ['f(9007199254740991 + 1, 2 - 3)', [9007199254740992n, -1]],
  ])('%s', (text, expected) => {
    expect(land(text)).toEqual(expected)
  })

  it('makes no prototypes', () => {
    const [object] = land("f({'__proto__': {'polluted': 1}, 'constructor': 2})") as [
      Record<string, unknown>,
    ]
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype)
    expect(Object.keys(object)).toEqual(['__proto__', 'constructor'])
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
    const [named] = land('f(__proto__=1)') as [Record<string, unknown>]
    expect(Object.hasOwn(named, '__proto__')).toBe(true)
  })
})

describe('what is not allowed', () => {
  it.each([
    '__import__("os").system("x")',
    'f.call()',
    'f(f(1))',
    'f(process)',
    'f(version.x)',
    'f',
    'import os',
    'f() or f()',
    'lambda: 1',
    '[x for x in f()]',
    'f(*[1])',
    'f(**{})',
    "f'{1}'",
    'f(1j)',
    'f(1 2)',
    'f(1',
    'f(,)',
    "f('abc)",
    'f(`x`)',
    'f = 1',
    '__hbi_init__()',
    '__hbi_cleanup__()',
    'hbi_peer_done()',
    'toString()',
    'constructor("return 1")()',
    '__proto__',
    'hasOwnProperty("f")',
    'f(1)(2)',
    'f[0]',
    'def g(): pass',
    'if True: f()',
    'x == 1',
    'f(a=1, 2)',
    'f(a=1, a=2)',
    '2 * 3',
    'f(010)',
    "f('\\x4')",
    "f('\\N{DASH}')",
    "f(b'é')",
    'f({[]: 1})',
    "f('a' b'b')",
    '(function(){})()',
    'eval("1")',
    'f() // comment',
  ])('%s', (text) => {
    let calls = 0
    const names = {
      f: () => ++calls,
      version: 3,
      __hbi_init__: () => ++calls,
      __hbi_cleanup__: () => ++calls,
      hbi_peer_done: () => ++calls,
    }
    expect(catchThrown(() => land(text, names)).code).toBe('MANYHOST_WIRE_CODE')
    expect(calls).toBe(0)
  })

  it('is found before any of the code happens', () => {
    let calls = 0
    expect(catchThrown(() => land('f()\nf()\ng()', { f: () => ++calls })).message).toContain(
      'g, which is not exposed',
    )
    expect(calls).toBe(0)
  })

  it('is nesting without end, in any bracket', () => {
    for (const [open, close] of ['[]', '()', '{}']) {
      const text = `f(${open?.repeat(100_000)}${close?.repeat(100_000)})`
      expect(catchThrown(() => land(text)).message).toMatch(/nesting deeper/)
    }
  })

  it('is names without end', () => {
    const environment = new LandingEnvironment({})
    const assign = (i: number) => landIn(`x${i} = ${i}`, environment, (call) => call())
    for (let i = 0; i < 64; i++) assign(i)
    expect(catchThrown(() => assign(64)).code).toBe('MANYHOST_WIRE_LIMIT')
    expect(catchThrown(() => land(`${'x'.repeat(65)} = 1`)).code).toBe('MANYHOST_WIRE_CODE')
  })

  it('is anything that fuzz makes, but by a typed error and quickly', () => {
    const parts = fc.constantFrom(
      'f',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      ',',
      ':',
      '=',
      "'",
      '"',
      'b',
      '\\',
      'x',
      '1',
      '.',
      '-',
      '+',
      '\n',
      ';',
      '#',
      ' ',
      'None',
      'set',
      '_',
      'e',
      '\u2028',
      '\ud800',
      'é',
    )
    const texts = fc.oneof(
      fc.array(parts, { maxLength: 40 }).map((all) => all.join('')),
      fc.string({ maxLength: 60 }),
    )
    fc.assert(
      fc.property(texts, (text) => {
        try {
          land(text)
        } catch (error) {
          expect((error as { code?: string }).code).toMatch(/^MANYHOST_WIRE_/)
        }
      }),
      { numRuns: 3_000 },
    )
  })
})

describe('repr', () => {
  it.each<[unknown, string]>([
    ["it's", `"it's"`],
    [`it's "so"`, `'it\\'s "so"'`],
    ['a\n\x00\x7f\u2028\\', "'a\\n\\x00\\x7f\\u2028\\\\'"],
    ['\u{1f600}é', "'\u{1f600}é'"],
    [Buffer.from([0, 65, 255, 39]), `b"\\x00A\\xff'"`],
    [[1, -0, 1.5, Infinity, -Infinity, NaN], '[1, -0.0, 1.5, 1e999, -1e999, nan]'],
    [{ a: null, b: undefined, c: true }, "{'a': None, 'c': True}"],
    [new Map<unknown, unknown>([[1, new Set([2])]]), '{1: {2}}'],
    [[new Set(), 10n ** 20n, undefined], '[set(), 100000000000000000000, None]'],
    [
      [2 ** 53, -(2 ** 53), 2 ** 64, 123456789012345680000],
      '[9007199254740992, -9007199254740992, 18446744073709551616, 123456789012345683968]',
    ],
    [[2 ** 53 - 1, 1e21, 1.5e300, 0.1], '[9007199254740991, 1e+21, 1.5e+300, 0.1]'],
  ])('%#: %s', (value, text) => {
    expect(repr(value)).toBe(text)
  })

  it('lands as what it was', () => {
    const values = fc.anything({
      withBigInt: true,
      withMap: false,
      withNullPrototype: false,
      maxDepth: 4,
    })
    fc.assert(
      fc.property(values, (value) => {
        const expected = JSON.stringify(value, normal)
        const [landed] = land(`f(${repr(value)})`) as unknown[]
        expect(JSON.stringify(landed, normal)).toEqual(expected)
      }),
      { numRuns: 2_000 },
    )
  })

  it('puts values into code, which they cannot leave', () => {
    const evil = "'); f(666); ('"
    expect(land(code`f(${evil}, ${5})`)).toEqual([evil, 5])
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(land(code`f(${text})`)).toEqual([
          text.toWellFormed?.() === text ? text : expect.anything(),
        ])
      }),
      { numRuns: 2_000 },
    )
  })

  it.each([[() => 1], [Symbol('x')], [new (class Thing {})()], [new Date(0)]])(
    'refuses %s',
    (value) => {
      expect(catchThrown(() => repr(value)).code).toBe('MANYHOST_WIRE_CODE')
    },
  )

  it('refuses circles', () => {
    const circle: unknown[] = []
    circle.push(circle)
    expect(catchThrown(() => repr(circle)).message).toMatch(/a circular reference/)
  })
})

/** JSON has no word for these; a Map stands for an object with other keys. */
function normal(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint')
    return Number.isSafeInteger(Number(value)) ? Number(value) : `${value}n`
  // A whole number that is not safe lands as a bigint.
  if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 1e21) {
    return Number.isSafeInteger(value) ? value : `${BigInt(value)}n`
  }
  if (value === undefined) return null
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined))
  }
  return value
}

it('a reactor exposes the public methods of an object, bound to it', () => {
  class Base {
    greet(): string {
      return `hello ${this.name}`
    }
    name = 'Nick'
  }
  class Hello extends Base {
    _hidden(): void {}
    count(): number {
      return 1
    }
  }
  const names = reactor(new Hello())
  expect(Object.keys(names).toSorted()).toEqual(['count', 'greet'])
  expect(land('greet()', names)).toBe('hello Nick')
})
