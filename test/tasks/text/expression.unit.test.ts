/** Expressions as Python has them. The expected values are those of Python 3.11, where `str()` of the value was taken. */
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { compileTemplate, TemplateError } from '../../../src/tasks/text/template.ts'

const fill = (expression: string, args: string) =>
  compileTemplate(`{= ${expression} =}`).expand({ args })

const AS_IN_PYTHON = [
  ["'odd' if x % 2 else 'even'", '3', 'odd'],
  ["'big' if x > 9 else 'mid' if x > 4 else 'small'", '5', 'mid'],
  ["('a' if x else 'b') + 'c'", '0', 'bc'],
  ['"%03d" % x', '7', '007'],
  ['"%s-%05.2f" % (x, 3.14159)', 'a', 'a-03.14'],
  ['"%x %X %#x %o" % (x, x, x, 8)', '255', 'ff FF 0xff 10'],
  [
    '"%e|%g|%g|%g" % (12345.678, 0.00001, 123456789.0, x)',
    '1.5',
    '1.234568e+04|1e-05|1.23457e+08|1.5',
  ],
  ['"%5s|%-5s|%+d|% d|%%" % ("a", "b", 5, x)', '6', '    a|b    |+5| 6|%'],
  ['"%05d|%-5d|%5d" % (x, x, x)', '-42', '-0042|-42  |  -42'],
  ['"%.3s|%*d" % ("abcdef", 5, x)', '3', 'abc|    3'],
  ['"%d" % x', '9007199254740993', '9007199254740993'],
  ['" ".join([w.upper() for w in x.split() if len(w) > 1])', 'ab c de', 'AB DE'],
  ['"_".join(w[0] for w in x.split())', 'ab cd', 'a_c'],
  ['sum(i * i for i in range(x))', '4', '14'],
  ['sum([i * 10 + j for i in range(2) for j in range(x) if i != j])', '3', '25'],
  ['"".join("%d%s" % (i, w) for i, w in enumerate(x.split()))', 'a b', '0a1b'],
  ['" ".join(a + b for a, b in zip(x, "cd"))', 'ab', 'ac bd'],
  ['max(len(w) for w in x.split())', 'aa bbb c', '3'],
  ['min([3, x, 2])', '1', '1'],
  ['",".join(sorted(x.split(",")))', 'b,a,c', 'a,b,c'],
  ['"".join(reversed(x))', 'abc', 'cba'],
  ['len(list(x))', 'abc', '3'],
  ['any(c.isdigit() for c in x)', 'a1', 'True'],
  ['all(c.isdigit() for c in x)', 'a1', 'False'],
  ['bool(x)', '0', 'False'],
  ['1 < x < 5', '3', 'True'],
  ['1 < x < 5', '7', 'False'],
  ['x not in [1, 2] and x is not None', '3', 'True'],
  ['not x == 3', '3', 'False'],
  ['-2 ** 2', '', '-4'],
  ['2 ** -1', '', '0.5'],
  ['-7 // 2', '', '-4'],
  ['x[1:3] + x[::-1] + x[-2:]', 'hello', 'elollehlo'],
  ['x.split(",")[1:][0]', 'a,b,c', 'b'],
  ["'a' 'b'", '', 'ab'],
  ["r'a\\n'", '', 'a\\n'],
  ["'a\\x41\\u00e9'", '', 'aAé'],
  ['x', '9007199254740993', '9007199254740993'],
  ['x + 1', '9007199254740993', '9007199254740994'],
  ['x * x', '9007199254740993', '81129638414606699710187514626049'],
  ['x // 10 % 1000', '-12345678901234567890', '211'],
  ['10 ** 30 - 1', '', '999999999999999999999999999999'],
  ['1 << 70', '', '1180591620717411303424'],
  ['int(x[1:]) + 1', 'n9007199254740993', '9007199254740994'],
  ['0x10 + 0b11 + 1_000', '', '1019'],
  ['x or "none"', '0', 'none'],
  ['(1, 2)[x]', '1', '2'],
] as const

describe('expressions', () => {
  it.each(AS_IN_PYTHON)('%s of %s', (expression, args, expected) => {
    expect(fill(expression, args)).toBe(expected)
  })

  it('know the time here: dt.datetime and dt.date, as strftime has it', () => {
    vi.useFakeTimers({ now: new Date(2026, 10, 2, 13, 4, 5, 678), toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    expect(fill('dt.datetime.now()', '')).toBe('2026-11-02 13:04:05.678000')
    expect(fill('dt.datetime.now().isoformat()', '')).toBe('2026-11-02T13:04:05.678000')
    expect(fill('dt.datetime.now().strftime("%Y%m%d-%H%M%S %j %a %b %p %I %y")', '')).toBe(
      '20261102-130405 306 Mon Nov PM 01 26',
    )
    expect(fill('dt.date.today()', '')).toBe('2026-11-02')
    expect(fill('dt.datetime.now().date() == dt.date.today()', '')).toBe('True')
    expect(fill('dt.datetime.now().year * 100 + dt.date.today().month', '')).toBe('202611')
    expect(fill('dt.date.today().weekday()', '')).toBe('0')
    const seconds = new Date(2026, 0, 1).getTime() / 1_000
    expect(fill('dt.datetime.fromtimestamp(x)', String(seconds))).toBe('2026-01-01 00:00:00')
    expect(fill('dt.date.fromtimestamp(x) < dt.date.today()', String(seconds))).toBe('True')
    expect(fill('dt.datetime.fromtimestamp(x).timestamp()', String(seconds))).toBe(String(seconds))
  })

  it.each([
    ['lambda y: y', /Unexpected 'lambda'/],
    ['{1: 2}', /Unexpected/],
    ['f"{x}"', /one expression/],
    ['x = 1', /Unexpected/],
    ['x if x', /Expected else/],
    ['[y for y x]', /Expected in/],
    ['x[1:2:3:4]', /from:to:step/],
    ['x[::0]', /must not be 0/],
    ['"%d" % "a"', /needs a number/],
    ['"%s %d" % x', /needs more values/],
    ['"%d" % (1, 2)', /needs 1 values, got 2/],
    ['"%q" % x', /%q is not a format/],
    ['"%999999999d" % 1', /at most/],
    ['[i for i in range(100000)]', /more than 10000 steps/],
    ['range(1000000)', /at most 100000/],
    ['[a for a, b in [1]]', /a loop needs|cannot be taken/],
    ['x.__class__', /has no property/],
    ['"".__class__.__mro__', /has no property/],
    ['dt.datetime.constructor', /no 'dt.datetime.constructor'/],
    ['[].map', /has no property/],
    ['x.upper.call()', /no function/],
    ['dt.timedelta(1)', /no function/],
    ['dt.datetime.fromtimestamp(1e300)', /out of range/],
    ['1 << 99999', /finite/],
    ['[1] * 99999999', /longer/],
    ['(', /Unexpected the end/],
    ['"a', /Unexpected/],
    ['[[0] * 1000000 for i in range(4000)]', /values of the expression have more than/],
    ['["a" * 1000000 for i in range(4000)]', /values of the expression have more than/],
    ['[("a" * 1000000).find("z") for i in range(4000)]', /values of the expression have more than/],
    ['[y for y in [[0] * 200000] for i in range(9)]', /larger than/],
    ['[[y, y] for y in [["abcdefgh"] * 100000] for i in range(2)]', /larger than/],
    ['"%s%s" % ("a" * 1000000, "a" * 1000000)', /longer than/],
    ['"%900000d%900000d" % (1, 2)', /longer than/],
    ['[[0] * 9] - 1', /got a list of 1/],
    ['y for y in x', /one expression/],
    ['[y for y in [1]][0] + y', /no 'y'/],
  ])('%s is refused, with what is wrong', (expression, message) => {
    expect(() => fill(expression, 'abc')).toThrow(message)
    expect(() => fill(expression, 'abc')).toThrow(TemplateError)
  })
})
