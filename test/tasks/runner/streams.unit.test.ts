/** Streams that are cut anywhere: output up to the mark, and frames of an answer. */

import { describe, expect, it } from 'vitest'
import { baseEnvironment, taskEnvironment } from '../../../src/tasks/runner/environment.ts'
import { MarkSplitter, SignalMessageFilter } from '../../../src/tasks/runner/mark-splitter.ts'
import {
  encodeRunnerFrame,
  encodeRunnerJsonFrame,
  formatBundleLines,
  RunnerFrameDecoder,
  type RunnerMessage,
  RunnerProtocolError,
  readRunnerMessages,
} from '../../../src/tasks/runner/protocol.ts'
import { exceedsWordLimit, mayDetach } from '../../../src/tasks/runner/shell-words.ts'
import { parseSimpleCommand } from '../../../src/tasks/runner/simple-command.ts'
import fc from '../../properties.ts'

const MARK = '\x01abc\x01abd'

/** In pieces, cut at these indexes. */
function cut(bytes: Buffer, indexes: readonly number[]): Buffer[] {
  const at = [
    0,
    ...indexes.map((one) => one % (bytes.length + 1)).sort((a, b) => a - b),
    bytes.length,
  ]
  return at
    .slice(1)
    .map((to, index) => bytes.subarray(at[index], to))
    .filter(({ length }) => length > 0)
}

describe('the mark', () => {
  it('is found wherever the bytes are cut, and all before it is passed on', () => {
    const piece = fc.constantFrom('\x01', 'abc', '\x01abc', 'abd', '\x01abc\x01ab', '\n', ' ', 'x')
    fc.assert(
      fc.property(fc.array(piece), fc.array(fc.nat(), { maxLength: 8 }), (pieces, indexes) => {
        const text = pieces.join('')
        fc.pre(!text.includes(MARK))
        const splitter = new MarkSplitter(MARK)
        const end: string[] = []
        let passed = ''
        for (const chunk of cut(Buffer.from(`${text}${MARK} 137\n`, 'latin1'), indexes)) {
          const found = splitter.feed(chunk)
          passed += found.data?.toString('latin1') ?? ''
          if (found.markText !== undefined) end.push(found.markText)
        }
        expect([passed, end]).toEqual([text, [' 137']])
      }),
      { numRuns: 2_000 },
    )
  })

  it('holds back no more than what may be one', () => {
    const splitter = new MarkSplitter(MARK)
    expect(splitter.feed(Buffer.from('hello')).data?.toString()).toBe('hello')
    expect(splitter.feed(Buffer.from(`x${MARK.slice(0, 3)}`)).data?.toString()).toBe('x')
    expect(splitter.takeHeld()?.toString()).toBe(MARK.slice(0, 3))
  })
})

describe('the obituary', () => {
  it('is dropped only at the end of a task that a signal ended', () => {
    const own = new SignalMessageFilter()
    expect(own.feed(Buffer.from('a\nKilled\n'))?.toString()).toBe('a\n')
    expect(own.end(true)).toBeUndefined()
    expect(own.feed(Buffer.from('Segmentation fault (core dumped)\n'))).toBeUndefined()
    expect(own.feed(Buffer.from('more'))?.toString()).toBe('Segmentation fault (core dumped)\nmore')
    expect(own.feed(Buffer.from('Killed\n'))).toBeUndefined()
    expect(own.end(false)?.toString()).toBe('Killed\n')
  })
})

describe('frames', () => {
  const bytes = Buffer.concat([
    encodeRunnerJsonFrame('hello', 0, { clientId: 'a', clientHost: 'b', numTasks: 2 }),
    encodeRunnerFrame('stdout', 3, Buffer.from([0, 1, 255])),
    encodeRunnerFrame('beat', 0),
    encodeRunnerJsonFrame('outcomes', 1, [{ id: 'x' }]),
    encodeRunnerJsonFrame('refused', 7, 'no'),
    encodeRunnerJsonFrame('returned', 0, [{ id: 'y', fence: 2 }]),
    encodeRunnerFrame('end', 0),
  ])

  it('are read wherever they are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 12 }), (indexes) => {
        const frames = new RunnerFrameDecoder()
        const read: RunnerMessage[] = cut(bytes, indexes).flatMap((chunk) => frames.feed(chunk))
        expect(read.map(({ is }) => is)).toEqual([
          'hello',
          'stdout',
          'beat',
          'outcomes',
          'refused',
          'returned',
          'end',
        ])
        expect(read[1]).toEqual({ is: 'stdout', index: 3, data: Buffer.from([0, 1, 255]) })
      }),
      { numRuns: 500 },
    )
  })

  it('of others, too long ones, and an answer that is cut off are refused', async () => {
    expect(() => new RunnerFrameDecoder().feed(Buffer.from('HTTP/1.1 200 OK'))).toThrow(
      RunnerProtocolError,
    )
    const long = encodeRunnerFrame('stdout', 0)
    long.writeUInt32BE(0xffff_ffff, 5)
    expect(() => new RunnerFrameDecoder().feed(long)).toThrow(RunnerProtocolError)
    expect(() =>
      new RunnerFrameDecoder().feed(encodeRunnerFrame('outcomes', 0, Buffer.from('{'))),
    ).toThrow(/not JSON/)
    const read = async (): Promise<void> => {
      async function* body() {
        yield bytes.subarray(0, bytes.length - 1)
      }
      for await (const _ of readRunnerMessages(body())) void _
    }
    await expect(read()).rejects.toThrow(/cut off/)
  })

  it('a bundle is lines of JSON', () => {
    expect([
      ...formatBundleLines({ template: 'x' }, [{ id: 'a', args: 'b\nc', fence: 1 }]),
    ]).toEqual(['{"bundle":{"template":"x"}}\n', '{"id":"a","args":"b\\nc","fence":1}\n'])
  })
})

describe('the environment', () => {
  it('has the fields that are known, and no secret', () => {
    const env = taskEnvironment(
      { id: 'a', args: 'x', fence: 1, submitHost: 'h', cores: null, tag: { 'a.b': 1, c: null } },
      { TASK_SLOT: 2 },
    )
    expect(env).toEqual({
      TASK_ID: 'a',
      TASK_FENCE: '1',
      TASK_SUBMIT_HOST: 'h',
      TASK_ARGS: 'x',
      TASK_SLOT: '2',
      TASK_TAG_A_B: '1',
    })
    expect(
      taskEnvironment({ id: 'a', args: 'x'.repeat(200_000), fence: 1 }, {}),
    ).not.toHaveProperty('TASK_ARGS')
    const base = {
      MANYHOST_RUNNER_TOKEN: 's',
      PORT: '1',
      A: 'old',
      MANYHOST_EXPORT_A: 'new',
      BASH_ENV: 'x',
    }
    expect(baseEnvironment(base)).toEqual({ A: 'new' })
  })
})

describe('lines that need no shell', () => {
  it.each<[string, readonly string[]]>([
    ['true', ['true']],
    [' ./a-b_c.sh\t-x  --y=1,2 z@h:/p+q%', ['./a-b_c.sh', '-x', '--y=1,2', 'z@h:/p+q%']],
    [`convert 'a b'.png "it's"'"' ''`, ['convert', 'a b.png', `it's"`, '']],
    [`python -c 'a = "$x" # *;\n'`, ['python', '-c', 'a = "$x" # *;\n']],
  ])('%s', (command, words) => {
    expect(parseSimpleCommand(command)).toEqual(words)
  })

  it.each([
    ['nothing', ['', '  ']],
    ['expansions', ['a $b', 'a "$b"', 'a `b`', 'a *', 'a ?', 'a [b]', 'a ~', 'a {b,c}', 'a ^b']],
    ['joints', ['a; b', 'a && b', 'a | b', 'a &', '(a)', 'a\nb', '! a', '{ a; }', 'a !b']],
    ['redirections', ['a > b', 'a <b', 'a 2>&1']],
    ['other quotes', ['a \\b', 'a "b\\n"', "a 'b", 'a "b', 'a "b`c`"', "'a' b", 'a # b']],
    ['assignments', ['a=b c', 'a=b']],
    ['what is of the shell', ['exit 3', 'cd /', 'eval a', '. ./a', 'if', 'for', '[ a ]', ': a']],
    ['what is not ASCII', ['a é', 'é', 'a\u00a0b', 'a\u3000b', 'a\0b', 'a\vb', 'a\rb']],
  ])('%s: no', (_, commands) => {
    expect(commands.filter((one) => parseSimpleCommand(one) !== undefined)).toEqual([])
  })

  it('long lines take time by their length', () => {
    const long = `a ${'b '.repeat(40_000)}`
    expect(parseSimpleCommand(long)).toHaveLength(40_001)
    expect(parseSimpleCommand(`${long};`)).toBeUndefined()
    expect(parseSimpleCommand(`a ${"'b'".repeat(30_000)};`)).toBeUndefined()
    expect(parseSimpleCommand(`a${' '.repeat(100_000)};`)).toBeUndefined()
  })
})

describe('words of the shell', () => {
  it('are quoted', () => {
    expect([
      exceedsWordLimit('x'.repeat(120_000)),
      exceedsWordLimit('x'.repeat(120_001)),
      exceedsWordLimit('é'.repeat(60_001)),
    ]).toEqual([false, true, true])
  })

  it.each(['a &', 'a & b', '(a &)', 'nohup a', 'setsid a', 'sleep 1&'])(
    '%s detaches',
    (command) => {
      expect(mayDetach(command)).toBe(true)
    },
  )

  it.each(['a && b', 'a 2>&1', 'a &> f', 'a |& b', 'a <&3', 'true'])('%s does not', (command) => {
    expect(mayDetach(command)).toBe(false)
  })
})
