/** The file of failures: what is fed back is what failed. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { NewTask, Task } from '../../../src/tasks/model/task.ts'
import { appendFailures, type FailureLineOptions } from '../../../src/tasks/server/failure-file.ts'
import { UNCLAIMED_FIELDS } from '../../../src/tasks/store/add-tasks.ts'
import { type LineKind, readTasks } from '../../../src/tasks/text/source.ts'
import { createFolder } from '../../cli/help.ts'

function failed(given: NewTask): Task {
  const { cores = null, memory = null, timeout = null, group = 0, tag = {} } = given
  const { template = null, command = null, cwd = process.cwd(), shell = null, env = null } = given
  const limits = { group, cores, memory, timeout, tag, request: given.request ?? null }
  const context = { template, command, cwd, shell, env, batch: 'b' }
  const stored = { id: 'x', submitId: 's', submitTime: 1, submitHost: 'h', attempt: 1, fence: 1 }
  return { ...UNCLAIMED_FIELDS, ...stored, ...limits, args: given.args, ...context }
}

/** What the file and the one beside it are read as. */
async function written(
  given: readonly NewTask[],
  {
    kind,
    template = '{}',
    cwd = process.cwd(),
    ...context
  }: Partial<FailureLineOptions> & { kind: LineKind },
) {
  const path = join(createFolder(), 'failed.txt')
  const problem = await appendFailures(path, given.map(failed), { kind, template, cwd, ...context })
  const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
  const beside = existsSync(`${path}.json`) ? readFileSync(`${path}.json`, 'utf8') : ''
  const read = async (lines: string, as: LineKind): Promise<NewTask[]> => {
    const tasks: NewTask[] = []
    for await (const task of readTasks([Buffer.from(lines)] as unknown as AsyncIterable<Buffer>, {
      kind: as,
    }))
      tasks.push(task)
    return tasks
  }
  return {
    text,
    beside,
    problem,
    tasks: await read(text, kind),
    others: await read(beside, 'json'),
  }
}

const plain: NewTask[] = [
  { args: 'exit 3' },
  { args: '  spaces at both ends  ' },
  {
    args: 'exit 3',
    cores: 2,
    memory: 2 ** 31,
    timeout: 30_000,
    group: 4,
    tag: { site: 'x', run: 7, done: true },
  },
  { args: 'echo https://x/z#anchor', timeout: 250 },
  { args: 'a', tag: { none: null, text: 'b-c', half: 0.5 } },
  { args: 'a', group: 2 },
]

describe('the file of failures', () => {
  it.each(['command', 'json'] as const)(
    'of %s lines gives back what the tasks were',
    async (kind) => {
      const { tasks, problem } = await written(plain, { kind })
      expect(problem).toBeUndefined()
      const bare = tasks.map(({ group = 0, ...task }) => ({ ...task, ...(group && { group }) }))
      expect(bare).toEqual(plain)
    },
  )

  it('has a line as it was where nothing was asked for', async () => {
    expect(
      (await written([{ args: 'exit 3' }, { args: 'echo # x' }], { kind: 'command' })).text,
    ).toBe('exit 3\necho # x\n')
  })

  it('of requests gives back requests, with their limits', async () => {
    const request = {
      method: 'POST',
      url: 'http://calc/x',
      headers: { 'content-type': 'application/json' },
      body: '{"a":1}',
    }
    const given = [{ args: 'POST http://calc/x {"a":1}', request, timeout: 5_000 }]
    const { tasks } = await written(given, { kind: 'request' })
    expect(tasks).toEqual([{ ...given[0], group: 0 }])
  })

  it.each([
    ['two lines', { args: 'echo a\necho b' }],
    ['what looks like a directive', { args: 'echo # MANYHOST: cores:2' }],
    ['a tag that is a text of digits', { args: 'a', tag: { run: '7' } }],
    ['an end in spaces, and a limit', { args: 'a  ', cores: 2 }],
    ['a tag with the name of a limit', { args: 'a', tag: { cores: 5 } }],
    [
      'a request with headers of its own',
      {
        args: 'GET http://calc/',
        request: { method: 'GET', url: 'http://calc/', headers: { a: 'b' }, body: null },
      },
    ],
  ] as [string, NewTask][])(
    'puts a task of %s into the file beside it, and says so',
    async (_, task) => {
      const { text, others, problem } = await written([task], { kind: 'command' })
      expect(text).toBe('')
      expect(others).toEqual([task])
      expect(problem).toMatch(
        /1 task fits no line of .*failed\.txt; it is in .*failed\.txt\.json, for --from-json/,
      )
    },
  )

  it('has the line for the template that it is read with, and says any other in JSON', async () => {
    const given = [
      { args: '7', template: 'echo {}', command: 'echo 7' },
      { args: '8', template: 'rm {}', command: 'rm 8' },
    ]
    const { text, others } = await written(given, { kind: 'command', template: 'echo {}' })
    expect(text).toBe('7\n')
    expect(others).toEqual([{ args: '8', template: 'rm {}' }])
    expect((await written(given, { kind: 'command' })).text).toBe('echo 7\nrm 8\n')
    const json = await written(given, { kind: 'json', template: 'echo {}' })
    expect(json.tasks).toEqual([{ args: '7' }, { args: '8', template: 'rm {}' }])
  })

  it.each(['command', 'json'] as const)(
    'of %s lines keeps a command that no template was for, and one that is its template',
    async (kind) => {
      const given = [{ args: 'exit 3' }, { args: '7', template: 'exit 4', command: 'exit 4' }]
      const { tasks, others } = await written(given, { kind, template: 'echo {}' })
      expect([...tasks, ...others]).toEqual([
        { args: 'exit 3', template: '{}' },
        { args: 'exit 4', template: '{}' },
      ])
    },
  )

  it.each(['command', 'json'] as const)('of %s lines keeps any tag', async (kind) => {
    const tag = JSON.parse('{"__proto__": 1, "constructor": "x", "version": "1.10", "half": 0.5}')
    const given = [{ args: 'a', tag: { ...tag, seed: 9007199254740993n } }]
    const { text, tasks } = await written(given, { kind })
    expect(text).toContain('9007199254740993')
    expect(tasks.map((one) => Object.entries(one.tag ?? {}))).toEqual(
      given.map((one) => Object.entries(one.tag)),
    )
  })

  it.each([
    { cwd: '/data' },
    { shell: '/bin/bash' },
    { env: { X: '1' } },
    { cwd: '/data', shell: '/bin/bash', env: { X: '1' } },
  ])('keeps where and how a task ran, in JSON lines: %j', async (context) => {
    const task = { args: 'a', ...context }
    expect((await written([task], { kind: 'json' })).tasks).toEqual([task])
    const { text, others } = await written([task], { kind: 'command' })
    expect({ text, others }).toEqual({ text: '', others: [task] })
  })

  it.each(['command', 'json'] as const)(
    'of %s lines says nothing of a folder, shell and environment that the run gives',
    async (kind) => {
      const context = { cwd: '/data', shell: '/bin/bash', env: { X: '1' } }
      const given = [{ args: 'a', ...context }]
      const { tasks, problem } = await written(given, { kind, ...context })
      expect(tasks).toEqual([{ args: 'a' }])
      expect(problem).toBeUndefined()
    },
  )
})
