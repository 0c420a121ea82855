/** What expressions may call. The expected values are those of Python 3.11. */
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  EXPRESSION_METHODS,
  EXPRESSION_NAMES,
} from '../../../src/tasks/text/expression-functions.ts'
import { compileTemplate } from '../../../src/tasks/text/template.ts'

const fill = (template: string, args: string) => compileTemplate(template).expand({ args })

const AS_IN_PYTHON = [
  ['os.path.dirname(x)', 'a/b/', 'a/b'],
  ['os.path.basename(x)', 'a/b/', ''],
  ['os.path.dirname(x)', '/a', '/'],
  ['os.path.dirname(x)', 'a', ''],
  ["'|'.join(os.path.split(x))", '//a//b', '//a|b'],
  ["'|'.join(os.path.split(x))", 'a/b/', 'a/b|'],
  ["'|'.join(os.path.splitext(x))", 'x.d/', 'x.d/|'],
  ["'|'.join(path.splitext(x))", 'a/.b.c', 'a/.b|.c'],
  ["'|'.join(path.splitext(x))", '.profile', '.profile|'],
  ['os.path.normpath(x)', '/a/./b/../c/', '/a/c'],
  ['os.path.normpath(x)', '/', '/'],
  ['os.path.isabs(x)', '/a', 'True'],
  ['os.path.isabs(x)', 'a', 'False'],
  ["os.path.join(x, '/b', 'c')", 'a', '/b/c'],
  ["os.path.join(x, 'b', '')", 'a/', 'a/b/'],
  ["'a' + os.sep + x", 'b', 'a/b'],
  ['x.title()', "they're here", "They'Re Here"],
  ['x.capitalize()', 'aBC', 'Abc'],
  ['x.lower()', 'AbÉ', 'abé'],
  ["x.strip('ab')", 'abcba', 'c'],
  ["x.lstrip('ab')", 'abcba', 'cba'],
  ["x.rstrip('ab')", 'abcba', 'abc'],
  ["x.startswith('ab')", 'abc', 'True'],
  ["x.endswith('ab')", 'abc', 'False'],
  ["x.find('b')", 'abcb', '1'],
  ["x.find('z')", 'abcb', '-1'],
  ["x.rfind('b')", 'abcb', '3'],
  ["x.count('aa')", 'aaaaa', '2'],
  ['str(x).zfill(5)', '-42', '-0042'],
  ['x.zfill(2)', 'abc', 'abc'],
  ["x.ljust(5, '.') + '|'", 'abc', 'abc..|'],
  ['x.rjust(5)', 'abc', '  abc'],
  ['x.isdigit()', 'a1', 'False'],
  ['str(x).isdigit()', '12', 'True'],
  ['x.isalpha()', 'abé', 'True'],
  ['x.isalpha()', 'a b', 'False'],
  ["x.removeprefix('ab')", 'abab', 'ab'],
  ["x.removesuffix('ab')", 'abab', 'ab'],
  ["x.removesuffix('')", 'ab', 'ab'],
  ['int(x)', '-2.7', '-2'],
  ['float(x) / 4', '2', '0.5'],
  ['abs(x)', '-3', '3'],
  ['min(x, 2, 5)', '3', '2'],
  ['max(x, 2, 5)', '3', '5'],
  ['pow(x, 3)', '2', '8'],
  ['round(x)', '-1.5', '-2'],
  ['round(x, -1)', '15', '20'],
  ['ord(x)', 'a', '97'],
  ['chr(x)', '97', 'a'],
  ["len(x.split(','))", 'a,b,', '3'],
  ['sum([x, 2])', '1', '3'],
  ['bool(x)', '0', 'False'],
  ['any([0, x])', '1', 'True'],
  ['all([0, x])', '1', 'False'],
  ['len(list(x))', 'abc', '3'],
  ["''.join(sorted(x))", 'cab', 'abc'],
  ["''.join(reversed(x))", 'abc', 'cba'],
  ['list(enumerate(x))[1][0]', 'ab', '1'],
  ['list(zip(x, range(5)))[2][1]', 'abc', '2'],
  ['math.ceil(x)', '1.2', '2'],
  ['math.trunc(x)', '-1.8', '-1'],
  ['math.fabs(x) > 1', '-1.5', 'True'],
  ['round(math.exp(x), 3)', '1', '2.718'],
  ['round(math.log(x), 3)', '10', '2.303'],
  ['math.log(x, 2)', '8', '3'],
  ['math.log2(x)', '8', '3'],
  ['math.log10(x)', '1000', '3'],
  ['round(math.sin(x) + math.cos(x) + math.tan(x), 3)', '1', '2.939'],
  ['round(math.asin(x) + math.acos(x) + math.atan(x), 3)', '0.5', '2.034'],
  ['round(math.atan2(x, 2), 3)', '1', '0.464'],
  ['math.hypot(x, 4)', '3', '5'],
  ['math.pow(x, 2) > 8', '3', 'True'],
  ['round(math.radians(x), 3)', '180', '3.142'],
  ['round(math.degrees(math.pi * x))', '1', '180'],
  ['round(math.e, x)', '2', '2.72'],
  ['x.upper() + x.replace("a", "o")', 'banana', 'BANANAbonono'],
  ['math.floor(math.sqrt(x))', '17', '4'],
] as const

describe('functions', () => {
  it.each(AS_IN_PYTHON)('%s of %s', (expression, args, expected) => {
    expect(fill(`{= ${expression} =}`, args)).toBe(expected)
  })

  it('of dates are those of now', () => {
    vi.useFakeTimers({ now: new Date(2026, 10, 2, 23, 4, 5, 678), toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const now = new Date()
    // The moment in UTC, and the day here.
    expect(fill('{= dt.now() =} {= dt.today() =} {= dt.timestamp() =}', '')).toBe(
      `${now.toISOString()} 2026-11-02 ${now.getTime() / 1_000}`,
    )
  })

  it('are all tried here', () => {
    const tried = AS_IN_PYTHON.map(([expression]) => expression).join(' ')
    const isTried = (name: string): boolean =>
      new RegExp(`(?<!\\w)${name.replaceAll('.', '\\.')}(?!\\w)`).test(tried)
    const names = [...EXPRESSION_NAMES.keys()].filter((name) => !/^(?:dt|path)\./.test(name))
    expect(names.filter((name) => !isTried(name))).toEqual([])
    // Those of dates: expression.unit.test.ts.
    const ofDates = ['strftime', 'isoformat', 'timestamp', 'date', 'weekday']
    const methods = [...EXPRESSION_METHODS.keys()].filter((name) => !ofDates.includes(name))
    expect(methods.filter((name) => !isTried(name))).toEqual([])
  })
})

it('a folder has no extension, and {-}{+} is always the line (of a.d/ it was a.)', () => {
  expect(fill('{-}|{+}|{++}', '/x/a.d/')).toBe('/x/a.d/||')
  for (const line of ['a.tar.gz', '.profile', 'a.', 'x/.b.c', 'a.d/', '/', '']) {
    expect(fill('{-}{+}', line)).toBe(line)
  }
})
