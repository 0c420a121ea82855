/** Tasks as JSON: one a line, a list, or objects over many lines, and what is wrong with one of them. */
import { describe, expect, it } from 'vitest'
import type { NewTask } from '../../../src/tasks/model/task.ts'
import { readTasks } from '../../../src/tasks/text/source.ts'

async function read(text: string): Promise<{ tasks: NewTask[]; errors: string[] }> {
  const tasks: NewTask[] = []
  const errors: string[] = []
  const source = readTasks(text.split('\n'), {
    kind: 'json',
    onBad: ({ message }) => errors.push(message),
  })
  for await (const task of source) tasks.push(task)
  return { tasks, errors }
}

it('onLine hears the last line of each object', async () => {
  const heard: number[] = []
  const text = `[\n${JSON.stringify({ args: 'a' })},\n${JSON.stringify({ args: 'b' }, null, 2)},\n{"args":"c"}]`
  for await (const _ of readTasks(text.split('\n'), {
    kind: 'json',
    onLine: (line) => heard.push(line),
  })) {
    // Each is asked for.
  }
  expect(heard).toEqual([2, 5, 6])
})

it('onLine counts a list on one line when its last task is given', async () => {
  const heard: number[] = []
  const lines = ['{"args":"a"}', JSON.stringify([{ args: 'b' }, { args: 'c' }, { args: 'd' }])]
  for await (const { args } of readTasks(lines, {
    kind: 'json',
    onLine: (line) => heard.push(line),
  })) {
    expect(heard.at(-1)).toBe(args === 'd' ? 2 : 1)
  }
  expect(heard.at(-1)).toBe(2)
})

const argsOf = async (text: string): Promise<string[]> =>
  (await read(text)).tasks.map(({ args }) => args)

const OBJECTS = [{ args: 'a "}{" [', tag: { x: 1 } }, { args: 'b\n{' }, { args: 'c', cores: 2 }]
const ALL = OBJECTS.map(({ args }) => args)

describe('objects', () => {
  it.each([
    ['one a line', OBJECTS.map((one) => JSON.stringify(one)).join('\n')],
    ['a list in one line', JSON.stringify(OBJECTS)],
    ['a list, one a line', `[\n${OBJECTS.map((one) => JSON.stringify(one)).join(',\n')}\n]`],
    [
      'a list that begins and ends with them',
      `[${OBJECTS.map((one) => JSON.stringify(one)).join(',\n')}]`,
    ],
    [
      'a list with commas in front',
      `[ ${OBJECTS.map((one) => JSON.stringify(one)).join('\n,')}\n]`,
    ],
    ['a printed list', JSON.stringify(OBJECTS, null, 4)],
    [
      'a list printed with tabs, and lines between',
      JSON.stringify(OBJECTS, null, '\t').replaceAll('\n', '\n\n'),
    ],
    ['printed one after the other', OBJECTS.map((one) => JSON.stringify(one, null, 2)).join('\n')],
    [
      'two lists',
      `${JSON.stringify(OBJECTS.slice(0, 1))}\n${JSON.stringify(OBJECTS.slice(1), null, 1)}`,
    ],
  ])('are read as %s', async (_, text) => {
    expect(await read(text)).toMatchObject({ errors: [] })
    expect(await argsOf(text)).toEqual(ALL)
  })

  it.each([
    ['{"args":"a"\n{"args":"b"}', ['b'], /line 1: it is not JSON/],
    ['{"args":"b"}\n{"args":"a",}\n', ['b'], /line 2: it is not JSON/],
    ['{\n"args": "a",\n}\n{"args":"b"}', ['b'], /line 1: it is not JSON/],
    ['{"args":"b"}\n{\n"args": "a"', ['b'], /line 2: .*has no end/],
    ['[{"args":"b"},7]', ['b'], /line 1: .*an object/],
    ['[{"args":7},{"args":"b"}]', ['b'], /line 1: args must be a text, got/],
    ['{"args":"a","tag":"x"}\n{"args":"b"}', ['b'], /line 1: tags must be an object/],
    ['{"args":"a","tag":[1]}\n{"args":"b"}', ['b'], /line 1: tags must be an object/],
    ['[]\n{"args":"b"}', ['b'], /line 1: the list has no task/],
  ])(
    '%j: what is wrong is told with its line, and the rest goes on',
    async (text, args, message) => {
      const { tasks, errors } = await read(text)
      expect(tasks.map((task) => task.args)).toEqual(args)
      expect(errors).toHaveLength(1)
      expect(errors[0]).toMatch(message)
    },
  )

  it('that never end are given up at the longest line', async () => {
    const { tasks, errors } = await read(
      `{\n${`"${'x'.repeat(10_000)}": 1,\n`.repeat(110)}}\n{"args":"b"}`,
    )
    expect(errors[0]).toMatch(/line 1: it is longer than 1048576 bytes/)
    expect(tasks.at(-1)?.args).toBe('b')
  })
})

describe('a row of a list', () => {
  const row = { id: 'i', submit_id: 's', submit_time: '2026-01-31T00:00:00.000Z', exit_status: 0 }

  it('is what it was when it was handed in', async () => {
    const text = JSON.stringify({
      ...row,
      ...{
        args: 'a',
        cores: null,
        timeout: 2.5,
        request: null,
        waited: 0.1,
        tag: { x: 1, part: 3 },
      },
    })
    expect((await read(text)).tasks).toEqual([{ args: 'a', timeout: 2_500, tag: { x: 1 } }])
  })

  it('keeps where and how it ran, and nothing else that it had', async () => {
    const way = { cwd: '/a', template: 'echo hi', shell: '/bin/bash', env: { A: '1' } }
    const had = { command: 'echo hi', batch: 'b', attempts: 3, captured: true }
    expect((await read(JSON.stringify({ ...row, args: 'a', ...way, ...had }))).tasks).toEqual([
      { args: 'a', ...way },
    ])
    const none = { cwd: null, template: null, shell: null, env: null }
    expect((await read(JSON.stringify({ ...row, args: 'a', ...none, ...had }))).tasks).toEqual([
      { args: 'a' },
    ])
  })

  it('is no table of parameters: there, all that is no field is a tag', async () => {
    const text = JSON.stringify({ args: 'a', id: 7, exit_status: 0, part: 2 })
    expect((await read(text)).tasks).toEqual([
      { args: 'a', tag: { id: 7, exit_status: 0, part: 2 } },
    ])
  })
})
