/** What `list --json` prints, fed back by `--from-json`, is the same tasks: over any tasks, and through the programs. */

import { expect, it, onTestFinished } from 'vitest'
import { createTaskFormatter } from '../../src/cli/tasks/format-tasks.ts'
import type { NewTask, Task } from '../../src/tasks/model/task.ts'
import { TASK_COLUMNS } from '../../src/tasks/model/task-columns.ts'
import { readTasks } from '../../src/tasks/text/source.ts'
import { openStore } from '../../src/tasks.ts'
import { createFolder, runManyhost } from '../cli/help.ts'
import fc from '../properties.ts'
import { listed } from './store/store.suite.ts'

const word = fc.string({ unit: fc.constantFrom(...'aZ0_.+-19'), minLength: 1, maxLength: 20 })
const tagValue = fc.oneof(
  word,
  fc.constantFrom('', '1', '1.10', 'true', 'null'),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => !Object.is(n, -0)),
  fc.bigInt({ min: 2n ** 53n, max: 10n ** 40n }),
  fc.boolean(),
  fc.constant(null),
)
/** All that can be handed in. */
const task: fc.Arbitrary<NewTask> = fc.record(
  {
    args: fc
      .string({ unit: 'binary', maxLength: 60 })
      .filter((text) => !text.includes('\0') && text.isWellFormed()),
    group: fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }),
    cores: fc.double({ min: 0.001, max: 1e6, noNaN: true }),
    memory: fc.integer({ min: 1 }),
    timeout: fc.integer({ min: 1, max: 1e12 }),
    tag: fc.dictionary(
      fc
        .oneof(word, fc.constantFrom('__proto__', 'id', 'args', 'site'))
        .filter((name) => name !== 'part'),
      tagValue,
      { maxKeys: 5, noNullPrototype: true },
    ),
    request: fc.record({
      method: fc.constantFrom('GET', 'POST', 'PUT'),
      url: fc.constantFrom('http://calc/add?x=1', 'http://a.b/'),
      headers: fc.constantFrom({}, { 'x-a': 'b' }),
      body: fc.option(fc.string({ maxLength: 30 }).filter((text) => !text.includes('\0'))),
    }),
    template: fc.constantFrom('echo {}', 'a command', 'true', '{seed} {slot}'),
    cwd: fc.constantFrom('/', '/tmp/a b'),
    shell: fc.constantFrom('/bin/sh', '/bin/bash'),
    env: fc.constantFrom({}, { A: '1', B: '' }),
  },
  { requiredKeys: ['args'] },
)

function json(tasks: readonly Task[], parts: number): string {
  const out = createTaskFormatter('json', TASK_COLUMNS.slice(1))
  let text = out.formatHead()
  for (let at = 0; at < tasks.length; at += parts)
    text += out.formatRows(tasks.slice(at, at + parts), at === 0)
  return text + out.formatTail(tasks.length === 0)
}

/** What of a task is handed in. */
function given(task: Task): object {
  const { args, group, cores, memory, timeout, tag, request, template, cwd, shell, env } = task
  return { args, group, cores, memory, timeout, tag, request, template, cwd, shell, env }
}

it('any tasks of a store, listed as JSON and read again, are the same tasks', async () => {
  const store = await openStore(':memory:')
  onTestFinished(() => store.close())
  await fc.assert(
    fc.asyncProperty(
      fc.array(task, { maxLength: 6 }),
      fc.integer({ min: 1, max: 3 }),
      async (tasks, parts) => {
        await store.truncate()
        await store.add(tasks)
        const first = await listed(store)
        const text = json(first, parts)
        const again: NewTask[] = []
        // As a stream has it, cut anywhere.
        const bytes = Buffer.from(text)
        const chunks = [bytes.subarray(0, 7), bytes.subarray(7, 100), bytes.subarray(100)]
        for await (const one of readTasks(
          (async function* () {
            yield* chunks
          })(),
          { kind: 'json' },
        )) {
          again.push(one)
        }
        await store.truncate()
        await store.add(again)
        const second = await listed(store)
        expect(second.map(given)).toEqual(first.map(given))
      },
    ),
    { numRuns: 150 },
  )
}, 120_000)

it('the programs do so, after a rotation and with info, too', async () => {
  const home = createFolder()
  const run = async (words: string[], input = ''): Promise<string> => {
    const ended = await runManyhost(['tasks', ...words], { env: { XDG_DATA_HOME: home }, input })
    expect(ended.code, `${words.join(' ')}: ${ended.stderr}`).toBe(0)
    return ended.stdout
  }
  const line = '{"args":"true","timeout":1.5,"tag":{"seed":9007199254740993,"v":"1.10"}}\n'
  await run(['cluster', '--from-json'], line)
  await run(['initdb', '--rotate'])
  const fields = ['args', 'timeout', 'tag', 'group']
  const other = ['--store', `${home}/other.db`]
  await run(['submit', '--from-json', '-f', '-', ...other], await run(['list', '--json']))
  expect(await run(['list', ...fields, '-f', 'csv', ...other])).toBe(
    'args,timeout,tag,group\ntrue,1.5,"{""seed"":9007199254740993,""v"":""1.10""}",0\n',
  )
  const id = (await run(['list', 'id', ...other])).trim()
  await run(
    ['submit', '--from-json', '-f', '-', ...other],
    await run(['info', id, '--json', ...other]),
  )
  expect(await run(['list', '-c', '-t', 'seed:9007199254740993', 'v:1.10', ...other])).toBe('2\n')
  // Nothing is nothing.
  const none = await run(['list', '--json', '-t', 'no:such', ...other])
  expect(JSON.parse(none)).toEqual([])
  await run(['submit', '--from-json', '-f', '-', ...other], none)
  expect(await run(['list', '-c', ...other])).toBe('2\n')
})
