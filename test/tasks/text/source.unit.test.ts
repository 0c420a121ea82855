/** From lines to tasks: directives, tags, requests, JSON; bad lines, and how fast a source is read. */
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { ManyhostError } from '../../../src/core/errors.ts'
import { requireBytes } from '../../../src/core/units.ts'
import type { NewTask } from '../../../src/tasks/model/task.ts'
import { parseDirectives, splitLine } from '../../../src/tasks/text/directives.ts'
import { expandNodelist } from '../../../src/tasks/text/nodelist.ts'
import {
  LONGEST_LINE,
  readTasks,
  type SourceOptions,
  type TaskSource,
} from '../../../src/tasks/text/source.ts'
import { checkTags, parseTag } from '../../../src/tasks/text/tags.ts'
import { parseTaskDuration } from '../../../src/tasks/text/units.ts'
import { catchThrown } from '../../help.ts'
import fc from '../../properties.ts'

async function all(source: TaskSource, options: SourceOptions = {}): Promise<NewTask[]> {
  const tasks: NewTask[] = []
  for await (const task of readTasks(source, options)) tasks.push(task)
  return tasks
}

async function tolerant(source: TaskSource, options: SourceOptions = {}) {
  const errors: string[] = []
  const onBad = (error: ManyhostError): void => void errors.push(error.message)
  return { tasks: await all(source, { ...options, onBad }), errors }
}

describe('directives', () => {
  it('set what they name for their line; the rest are tags', async () => {
    const line = 'sim 7 # HYPERSHELL: cores:2 memory:2GB timeout:30 group:4 site:x run:7 final'
    const [task] = await all([line])
    expect(task).toEqual({
      args: 'sim 7',
      cores: 2,
      memory: 2_000_000_000,
      timeout: 30_000,
      group: 4,
      tag: { site: 'x', run: 7, final: true },
    })
  })

  it('on a line of their own hold for all that follow, and a line may differ', async () => {
    const lines = [
      'a',
      '#MANYHOST: cores:2 site:x',
      'b',
      '',
      'c # MANYHOST: cores:1 run:2',
      '# MANYHOST: group:1',
      'd',
    ]
    expect(await all(lines)).toEqual([
      { args: 'a' },
      { args: 'b', cores: 2, tag: { site: 'x' } },
      { args: 'c', cores: 1, tag: { site: 'x', run: 2 } },
      { args: 'd', cores: 2, group: 1, tag: { site: 'x' } },
    ])
  })

  it.each([
    'echo https://x/z#anchor',
    'echo a # a comment',
    'echo "# MANYHOST" x',
    'x#MANYHOST: cores:2',
    '# only a comment',
  ])('any other # belongs to the command (weakness 1): %s', async (line) => {
    expect(await all([line])).toEqual([{ args: line }])
  })

  it.each([
    'cores:0',
    'cores:two',
    'memory:lots',
    'timeout:-1',
    'timeout:0',
    'group:-1',
    'bad tag!:x',
    'site:a/b',
    'cores',
  ])('that are wrong are named: %s', async (text) => {
    const { tasks, errors } = await tolerant(['ok', `x # MANYHOST: ${text}`, 'ok'])
    expect(tasks).toHaveLength(2)
    expect(errors).toEqual([expect.stringMatching(/^line 2: directive "/)])
  })

  it('of any text give directives or a ManyhostError', () => {
    const word = fc.constantFrom(
      'cores',
      'memory',
      'timeout',
      ':',
      '=',
      '1',
      'GB',
      ' ',
      ',',
      '-',
      'x',
      '#',
      '\0',
      'é',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(word).map((words) => words.join('')),
    )
    fc.assert(
      fc.property(text, (some) => {
        try {
          parseDirectives(some)
          splitLine(`${some} # MANYHOST: ${some}`)
        } catch (error) {
          expect((error as ManyhostError).code).toBe('MANYHOST_INVALID_OPTION')
        }
      }),
      { numRuns: 3_000 },
    )
  })
})

describe('sources', () => {
  const bytes = (...chunks: (string | number[])[]) =>
    Readable.from(
      chunks.map((one) => (typeof one === 'string' ? Buffer.from(one) : Buffer.from(one))),
    )

  it('are cut at newlines, however the bytes come', async () => {
    expect(await all(bytes('ec', 'ho 1\r', '\necho 2\n\n', '\recho \xe9', ' 3'))).toEqual([
      { args: 'echo 1' },
      { args: 'echo 2' },
      { args: 'echo é 3' },
    ])
  })

  it('with lines that are not UTF-8, hold a NUL, or are too long: each is named, the rest goes on', async () => {
    const long = 'x'.repeat(LONGEST_LINE + 2)
    const source = bytes(
      'a\n',
      [0xff, 0xfe, 10],
      'b\n',
      'echo \0\n',
      long.slice(0, 600_000),
      long.slice(600_000),
      '\nc',
    )
    const { tasks, errors } = await tolerant(source)
    expect(tasks.map(({ args }) => args)).toEqual(['a', 'b', 'c'])
    expect(errors).toEqual([
      'line 2: it is not UTF-8',
      expect.stringMatching(/^line 4: it has a NUL character/),
      expect.stringMatching(/^line 5: it is longer than 1048576 bytes/),
    ])
  })

  it.each([
    ['bytes', () => bytes([0xef], [0xbb, 0xbf, 97, 10], 'b\n')],
    ['texts', () => ['\ufeffa', 'b']],
  ] as const)(
    'of %s may begin with a byte order mark, which is none of the first line',
    async (_, source) => {
      expect(await all(source())).toEqual([{ args: 'a' }, { args: 'b' }])
    },
  )

  it('keep such a mark anywhere else: it is a character', async () => {
    expect(await all(['a', '\ufeffb'])).toEqual([{ args: 'a' }, { args: '\ufeffb' }])
  })

  it.each([
    ['little', [0xff, 0xfe, 97, 0, 10, 0]],
    ['big', [0xfe, 0xff, 0, 97, 0, 10]],
  ] as const)('in UTF-16, %s end first, are refused by that name', async (_, given) => {
    const { errors } = await tolerant(bytes([...given]))
    expect(errors[0]).toMatch(/^line 1: it is not UTF-8, but UTF-16, .*iconv -f UTF-16 -t UTF-8/)
  })

  it('keep the spaces at the ends of a line; those before a directive part the two', async () => {
    const lines = ['  a  ', '\tb\t', ' c   # MANYHOST: cores:2', '   ', 'd \r\n']
    expect(await all(lines)).toEqual([
      { args: '  a  ' },
      { args: '\tb\t' },
      { args: ' c', cores: 2 },
      { args: 'd ' },
    ])
  })

  it('tell the number of each line before its task', async () => {
    const seen: (number | string)[] = []
    const onLine = (line: number) => seen.push(line)
    for await (const { args } of readTasks(['a', '', 'b'], { onLine })) seen.push(args)
    expect(seen).toEqual([1, 'a', 2, 3, 'b'])
  })

  it('tell which lines say something of all that follow', async () => {
    const seen: boolean[] = []
    const lines = ['# MANYHOST: group:4', 'a # MANYHOST: cores:2', '# no directive', 'b']
    const onLine = (_: number, isStanding: boolean) => seen.push(isStanding)
    for await (const _ of readTasks(lines, { onLine }));
    expect(seen).toEqual([true, false, false, false])
  })

  it('take a line of exactly the longest', async () => {
    const [task] = await all(bytes(`${'y'.repeat(LONGEST_LINE)}\r\n`))
    expect(task?.args.length).toBe(LONGEST_LINE)
  })

  it('stop at the first bad line unless told', async () => {
    const read = all(['a', 'b\0'])
    await expect(read).rejects.toMatchObject({
      code: 'MANYHOST_INVALID_TASK',
      message: expect.stringMatching(/^line 2: /),
    })
  })

  it('that throw midway pass that on, after what came before', async () => {
    const seen: string[] = []
    async function* source() {
      yield 'a'
      throw new Error('the tape broke')
    }
    const read = async () => {
      for await (const { args } of readTasks(source())) seen.push(args)
    }
    await expect(read()).rejects.toThrow('the tape broke')
    expect(seen).toEqual(['a'])
  })

  it('are read no faster than they are asked, and are closed when they are left', async () => {
    let [given, closed] = [0, false]
    async function* source() {
      try {
        for (;;) yield `task ${++given}`
      } finally {
        closed = true
      }
    }
    for await (const { args } of readTasks(source())) if (args === 'task 3') break
    expect([given, closed]).toEqual([3, true])
  })

  it('of tasks keep their fields, and standing ones fill in', async () => {
    const source = ['# MANYHOST: cores:2', { args: 'x', cores: 1 }, { args: 'y' }]
    expect(await all(source)).toEqual([
      { args: 'x', cores: 1 },
      { args: 'y', cores: 2 },
    ])
    const { errors } = await tolerant([{} as NewTask, 7 as never])
    expect(errors).toHaveLength(2)
  })
})

describe('lines of JSON', () => {
  it('are tasks; what is no field is a tag', async () => {
    const line =
      '{"args":"echo {site}","cores":2,"memory":"1G","timeout":5,"site":"x","tag":{"run":1}}'
    expect(await all([line], { kind: 'json', defaults: { group: 3, tag: { all: true } } })).toEqual(
      [
        {
          args: 'echo {site}',
          cores: 2,
          memory: 1024 ** 3,
          timeout: 5_000,
          group: 3,
          tag: { all: true, site: 'x', run: 1 },
        },
      ],
    )
  })

  it('say what a program says of its tasks (half a core, and -1, were refused)', async () => {
    const line = '{"args":"a","cores":0.5,"memory":1.5e21,"group":-1,"timeout":16.1}'
    const [task] = await all([line], { kind: 'json' })
    expect(task).toEqual({ args: 'a', cores: 0.5, memory: 1.5e21, group: -1, timeout: 16_100 })
    expect((await all(['a # MANYHOST: cores:0.5']))[0]).toMatchObject({ cores: 0.5 })
  })

  it.each([
    'nonsense',
    '[]',
    '{"args":7}',
    '{"args":"a","cores":-1}',
    '{"args":"a","group":1.5}',
    '{"args":"a","memory":0}',
    '{"args":"a","timeout":0}',
    '{"args":"a","timeout":{}}',
    '{"args":"a","x":{}}',
    '{"request":{"url":"ftp://x"}}',
    '{"request":{"url":"http://x/","method":"A B"}}',
    '{"request":{"url":"http://x/","headers":{"a b":"c"}}}',
    '{"request":{"url":"http://x/","body":7}}',
  ])('that are none: %s', async (line) => {
    expect((await tolerant([line], { kind: 'json' })).errors).toHaveLength(1)
  })
})

describe('where and how a line of JSON runs', () => {
  it('is a folder, a shell, variables and a template, by values that no tag has', async () => {
    const given = { args: 'x', cwd: '/a', shell: '/bin/bash', env: { A: '1' }, template: 'echo {}' }
    expect(await all([JSON.stringify(given)], { kind: 'json' })).toEqual([given])
    const tags = { cwd: 'a', shell: 'bash', env: 'prod', template: 'big' }
    expect(await all([JSON.stringify({ args: 'x', ...tags })], { kind: 'json' })).toEqual([
      { args: 'x', tag: tags },
    ])
  })

  it('says what no variable can be', async () => {
    const line = JSON.stringify({ args: 'x', env: { A: 1 } })
    await expect(all([line], { kind: 'json' })).rejects.toThrow(
      /line 1: env must be an object of texts/,
    )
  })
})

describe('requests', () => {
  it('are read where asked', async () => {
    const lines = [
      'POST http://calc/x?y=1 {"a": 1} # MANYHOST: group:2',
      'GET http://calc/',
      'PUT http://calc/t plain text',
      'PUT http://calc/t {no JSON',
    ]
    const tasks = await all(lines, { kind: 'request' })
    expect(tasks[0]).toEqual({
      args: 'POST http://calc/x?y=1 {"a": 1}',
      group: 2,
      request: {
        method: 'POST',
        url: 'http://calc/x?y=1',
        headers: { 'content-type': 'application/json' },
        body: '{"a": 1}',
      },
    })
    const request = { method: 'PUT', url: 'http://calc/t', headers: {} }
    expect(tasks[1]?.request).toEqual({
      ...request,
      method: 'GET',
      url: 'http://calc/',
      body: null,
    })
    expect(tasks[2]?.request).toEqual({ ...request, body: 'plain text' })
    expect(tasks[3]?.request).toEqual({ ...request, body: '{no JSON' })
    expect(await all(['GET http://calc/'])).toEqual([{ args: 'GET http://calc/' }])
  })

  it.each(['FETCH http://calc/', 'GET', 'GET /x', 'GET http://'])(
    'that are none: %s',
    async (line) => {
      expect((await tolerant([line], { kind: 'request' })).errors).toHaveLength(1)
    },
  )
})

describe('small languages', () => {
  it('tags', () => {
    expect(
      ['a', 'a:', 'a:1', 'a:007', 'a:1.50', 'a:true', 'a:false', 'a:null', 'a:x-y'].map(
        (one) => parseTag(one)[1],
      ),
    ).toEqual([true, '', 1, '007', '1.50', true, false, null, 'x-y'])
    expect(catchThrown(() => parseTag(':x')).message).toMatch(/1 to 120/)
    const longest = 'A-z0_9.+'.repeat(15)
    expect(parseTag(`${longest}:${longest}`)).toEqual([longest, longest])
    expect(catchThrown(() => parseTag(`${longest}x:1`)).message).toMatch(/1 to 120/)
    expect(catchThrown(() => parseTag(`a:${longest}x`)).code).toBe('MANYHOST_INVALID_OPTION')
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`t${n}`, n]))
    expect(checkTags(many(1_000))).toEqual(many(1_000))
    for (const none of ['x', null, ['x']]) {
      expect(catchThrown(() => checkTags(none)).message).toMatch(/tags must be an object/)
    }
    expect(catchThrown(() => checkTags(many(1_001))).message).toMatch(/at most 1000 tags/)
  })

  it('sizes and times', () => {
    expect(['1024', '2GB', '2g', '1.5GiB', '512 MB', '0'].map(requireBytes)).toEqual([
      1024, 2_000_000_000, 2_147_483_648, 1_610_612_736, 512_000_000, 0,
    ])
    expect(['30', '30s', '250ms', '1.5h', '01:30:00', '2:05'].map(parseTaskDuration)).toEqual([
      30_000, 30_000, 250, 5_400_000, 5_400_000, 125_000,
    ])
    // What is whole in milliseconds stays so.
    for (let ms = 1; ms < 20_000; ms++) {
      if (parseTaskDuration(ms / 1_000) !== ms || parseTaskDuration(`${ms}ms`) !== ms)
        expect.fail(`${ms}`)
    }
    for (const bad of ['', 'x', '-1', '2XB', '1e3', '99999999999999PB'])
      expect(() => requireBytes(bad)).toThrow()
    for (const bad of ['', '0', '-3', '3y', '1:2']) expect(() => parseTaskDuration(bad)).toThrow()
  })

  it('nodelists', () => {
    expect(expandNodelist('a[01-03,7].x,b')).toEqual(['a01.x', 'a02.x', 'a03.x', 'a7.x', 'b'])
    expect(expandNodelist('r[1-2]n[08-10]')).toHaveLength(6)
    expect(expandNodelist('user@h1:22, h2')).toEqual(['user@h1:22', 'h2'])
    for (const bad of [
      '',
      'a,',
      'a[',
      'a]',
      'a[1-]',
      'a[3-1]',
      'a[[1]]',
      'a[1-999999999]',
      'a b',
      'a[x]',
      'a[]',
    ]) {
      expect(() => expandNodelist(bad), bad).toThrow(/nodelist/)
    }
  })
})
