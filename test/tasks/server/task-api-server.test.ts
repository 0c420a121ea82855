/** A task server's HTTP side: what it takes, what it refuses, what it tells. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import {
  type NewTask,
  openStore,
  runCluster,
  serveForever,
  submitFrom,
  type TaskServeOptions,
} from '../../../src/tasks.ts'
import { createGate, rejectionOf, waitUntil } from '../../help.ts'

const TOKEN = 'a-token-of-16-or-more'

async function open(options: TaskServeOptions = {}) {
  const store = await openStore(':memory:')
  onTestFinished(() => store.close())
  const own = { store, forever: true, numTasks: 2, signalWait: 200 }
  const run = runCluster(undefined, { ...own, ...options, listen: { token: TOKEN } })
  onTestFinished(async () => {
    run.stop()
    await run
  })
  await run.ready
  const ask = async (
    path: string,
    init: { method?: string; body?: string; headers?: Record<string, string> } = {},
  ) => {
    const headers = { authorization: `Bearer ${TOKEN}`, ...init.headers }
    const answer = await fetch(`${run.url}${path}`, { ...init, headers })
    const text = await answer.text()
    return { status: answer.status, text, json: () => JSON.parse(text) }
  }
  const post = (body: string, headers?: Record<string, string>) =>
    ask('/tasks', { method: 'POST', body, ...(headers && { headers }) })
  return { run, store, ask, post }
}

it('a submission to a server is stored and run as one into a store', async () => {
  const given: NewTask[] = [
    { args: 'a', template: 'echo {} {n}', tag: { n: 9007199254740993n } },
    { args: 'b', template: 'echo constant' },
    {
      args: 'echo {} $TASK_TIMEOUT $TASK_TAG_N',
      template: '{}',
      timeout: 1_500,
      tag: { n: '1.10' },
    },
    { args: 'echo $A; pwd', env: { A: '1' }, cwd: '/', shell: '/bin/bash', cores: 2, group: 3 },
  ]
  const written = new Map<string, string>()
  const { run, store } = await open({
    onOutput: ({ id }, _, chunk) => void written.set(id, `${written.get(id) ?? ''}${chunk}`),
  })
  const { ids } = await submitFrom(given, { server: run.url as string, token: TOKEN })
  await waitUntil(() => written.size === given.length)
  expect(ids.map((id) => written.get(id))).toEqual([
    'a 9007199254740993\n',
    'constant\n',
    '{} 1.5 1.10\n',
    '1\n/\n',
  ])
  const stored = await store.find(ids)
  expect(stored.map(({ tag }) => tag)).toEqual([{ n: 9007199254740993n }, {}, { n: '1.10' }, {}])
  const relative = { args: 'x', cwd: 'no/path' }
  const error = await rejectionOf(
    submitFrom([relative], { server: run.url as string, token: TOKEN }),
  )
  expect(error).toMatchObject({ code: 'MANYHOST_INVALID_TASK' })
  expect(error.message).toMatch(/line 1: cwd must be an absolute path/)
})

it('a submission that comes again under its key is answered as the first, and not taken in twice', async () => {
  const { post, store } = await open()
  const first = await post('{"args":"true"}\n', { 'idempotency-key': 'k' })
  const [again, both] = await Promise.all([
    post('{"args":"true"}\n', { 'idempotency-key': 'k' }),
    post('{"args":"true"}\n', { 'idempotency-key': 'k' }),
  ])
  expect(first.status).toBe(200)
  expect([again.text, both.text]).toEqual([first.text, first.text])
  const other = await post('{"args":"true"}\n', { 'idempotency-key': 'l' })
  expect(other.json().ids).not.toEqual(first.json().ids)
  await post('{"args":"true"}\n')
  await post('{"args":"true"}\n')
  expect(await store.count()).toBe(4)
})

it('tasks come in all or none: not with a line that is none, nor too many, nor too large', async () => {
  const { post, store } = await open()
  const bad = await post('{"args":"true"}\n{"args":"true","cores":"many"}\n')
  expect([bad.status, bad.text]).toEqual([400, expect.stringMatching(/line 2: .*cores/)])
  const many = await post('{"args":"true"}\n'.repeat(10_001))
  expect([many.status, many.text]).toEqual([413, expect.stringMatching(/more than 10000 tasks/)])
  const large = `{"args":"${'x'.repeat(1_000_000)}"}\n`.repeat(68)
  // It may cut off who goes on sending.
  const answer = await post(large).catch(() => ({ status: 413 }))
  expect(answer.status).toBe(413)
  expect(await store.count()).toBe(0)
})

it('who waits for a task hears of its last attempt when it is over, or that it is not', async () => {
  const { folder, open: openGate } = createGate()
  const { post, ask } = await open({ maxRetries: 1 })
  const line = `until test -e ${folder}/open; do sleep 0.05; done; exit 7`
  const [id] = (await post(`${JSON.stringify({ args: line })}\n`)).json().ids
  expect((await ask(`/tasks/${id}?wait=1`)).json()).toMatchObject({ id, is_over: false })
  const waiting = ask(`/tasks/${id}?wait=60000`)
  openGate()
  const last = (await waiting).json()
  expect(last).toMatchObject({ is_over: true, attempt: 2, exit_status: 7, previous_id: id })
  // The id of the first attempt answers with the last one.
  expect((await ask(`/tasks/${id}`)).json()).toEqual(last)
})

it('a task that failed is not over while it has attempts left, though none has begun', async () => {
  const [fails, holds] = [createGate(), createGate()]
  const { run, post, ask, store } = await open({ maxRetries: 1 })
  const line = ({ folder }: { folder: string }): string => {
    const args = `touch ${folder}/on; until test -e ${folder}/open; do sleep 0.05; done; exit 7`
    return `${JSON.stringify({ args })}\n`
  }
  const [id = ''] = (await post(line(fails) + line(holds))).json().ids
  await waitUntil(() => [fails, holds].every(({ folder }) => existsSync(join(folder, 'on'))))
  run.drain()
  fails.open()
  await waitUntil(async () => (await store.get(id)).exitStatus === 7)
  expect((await ask(`/tasks/${id}`)).json()).toMatchObject({ exit_status: 7, is_over: false })
  holds.open()
  expect(await run).toMatchObject({ retried: 2 })
})

it('a task that runs is cancelled once, and one that is not there never', async () => {
  const { post, ask, store } = await open()
  const [id = ''] = (await post('{"args":"sleep 600"}\n')).json().ids
  await waitUntil(async () => (await store.get(id)).scheduleTime !== null)
  const cancel = () => ask(`/tasks/${id}`, { method: 'DELETE' })
  expect((await cancel()).json()).toEqual({ cancelled: 1 })
  expect((await ask(`/tasks/${id}`)).json()).toMatchObject({ exit_status: -1, is_over: true })
  expect((await cancel()).status).toBe(404)
  expect((await ask('/tasks/nobody', { method: 'DELETE' })).status).toBe(404)
  expect((await ask('/tasks/nobody')).status).toBe(404)
})

it('an output that was not captured, and a path that does not exist, are problems with a detail', async () => {
  const { post, ask } = await open()
  const [id] = (await post('{"args":"echo lost"}\n')).json().ids
  await ask(`/tasks/${id}?wait=60000`)
  expect((await ask(`/tasks/${id}/stdout`)).text).toMatch(/the stdout of task \S+ was not captured/)
  expect((await ask(`/tasks/${id}/secrets`)).text).toMatch(/stdout, stderr or csv/)
  expect((await ask('/elsewhere')).json()).toMatchObject({
    status: 404,
    detail: 'there is no GET /elsewhere',
  })
  expect((await ask('/tasks', { method: 'PUT' })).status).toBe(405)
})

it('one that goes on in memory, though nothing is left, and has a token though none was given (weakness 20)', async () => {
  const run = serveForever({ inMemory: true, listen: {} })
  await run.ready
  const url = `${run.url}/tasks`
  expect(run.token).toMatch(/^[\da-f]{48}$/)
  expect((await fetch(url, { method: 'POST', body: '{"args":"true"}' })).status).toBe(401)
  for (let done = 1; done <= 2; done++) {
    const headers = { authorization: `Bearer ${run.token}` }
    await fetch(url, { method: 'POST', body: '{"args":"true"}', headers })
    await waitUntil(() => run.counts.succeeded === done)
    await waitUntil(() => run.progress?.remaining === 0)
  }
  run.drain()
  expect(await run).toMatchObject({ succeeded: 2 })
})

it('whoever comes may hand in, where that is asked for; not on every address without TLS', async () => {
  const run = serveForever({ inMemory: true, listen: { anyone: true } })
  await run.ready
  expect(run.token).toBeUndefined()
  const answer = await fetch(`${run.url}/tasks`, { method: 'POST', body: '{"args":"true"}' })
  expect(answer.status).toBe(200)
  run.stop()
  await run
  const open = serveForever({ inMemory: true, listen: { host: '0.0.0.0', anyone: true } })
  expect((await rejectionOf(open.ready)).message).toMatch(/can be reached from other machines/)
})
