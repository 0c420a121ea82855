/** What commands do when the reader of their output goes away: only listings end with 0 before their work is done. */
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { ALL_COMMANDS } from '../../src/cli/all-commands.ts'
import { openStore } from '../../src/tasks/store/open.ts'
import { waitUntil } from '../help.ts'
import { createFolder, fleetYaml, type RunningProgram, startProgram, startServe } from './help.ts'

function home(): { at: string; env: Record<string, string> } {
  const at = createFolder()
  return { at, env: { XDG_DATA_HOME: at, XDG_RUNTIME_DIR: at } }
}

/** Reads so much of a stream, and goes away. */
function leave({ process }: RunningProgram, stream: 'stdout' | 'stderr' = 'stdout'): void {
  process[stream]?.destroy()
}

const BATCH = ['tasks', 'cluster', '-N', '2']

it.each(['stdout', 'stderr'] as const)(
  'cluster works its batch off when nobody reads %s',
  async (stream) => {
    const { at, env } = home()
    const child = startProgram(BATCH, { env, cwd: at })
    const to = stream === 'stderr' ? ' >&2' : ''
    child.process.stdin?.write(`echo first${to}\n`)
    await child.waitForOutput(/first/, stream)
    leave(child, stream)
    child.process.stdin?.end(Array.from({ length: 200 }, (_, n) => `echo ${n}${to}\n`).join(''))
    const { code, stderr } = await child.ended
    expect(code).toBe(0)
    if (stream === 'stdout')
      expect(stderr).toMatch(/nobody reads the output any more: the command goes on/)
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    expect(await store.counts()).toMatchObject({ succeeded: 201, total: 201 })
    await store.close()
  },
)

it('cluster that nobody reads still ends with the code of its tasks', async () => {
  const { at, env } = home()
  const child = startProgram(BATCH, { env, cwd: at })
  child.process.stdin?.write('echo first\n')
  await child.waitForOutput(/first/)
  leave(child)
  child.process.stdin?.end('echo more; exit 3\n')
  expect((await child.ended).code).toBe(1)
})

it.each(['stdout', 'stderr'] as const)(
  'run stops its command, and says that it did not end, when nobody reads %s',
  async (stream) => {
    const { at, env } = home()
    const to = stream === 'stderr' ? ' >&2' : ''
    const child = startProgram(['run', '--', `while :; do echo more; sleep 0.01; done${to}`], {
      env,
      cwd: at,
    })
    await child.waitForOutput(/more/, stream)
    leave(child, stream)
    expect((await child.ended).code).toBe(4)
  },
)

it('list has done its work when nobody reads on', async () => {
  const { at, env } = home()
  const path = join(at, 'tasks.db')
  const store = await openStore(path)
  await store.add(Array.from({ length: 20_000 }, (_, n) => ({ args: `echo ${n}` })))
  await store.close()
  const child = startProgram(['tasks', 'list', '--store', path], { env, cwd: at })
  await child.waitForOutput(/args/)
  leave(child)
  expect((await child.ended).code).toBe(0)
})

it('submit hands all of it in when nobody reads', async () => {
  const { at, env } = home()
  const child = startProgram(['tasks', 'submit', '-f', '-'], { env, cwd: at })
  leave(child)
  leave(child, 'stderr')
  child.process.stdin?.end('true\n'.repeat(3_000))
  expect((await child.ended).code).toBe(0)
  const store = await openStore(join(at, 'manyhost', 'tasks.db'))
  expect(await store.count()).toBe(3_000)
  await store.close()
})

it('a command line that is wrong stays wrong when nobody reads why', async () => {
  const child = startProgram(['tasks', 'list', '--nonsense'])
  leave(child, 'stderr')
  expect((await child.ended).code).toBe(2)
})

it('serve drains when nobody reads its log: who waits gets the answer, and the end is not 0', async () => {
  const slow = `
  http://slow:
    command:
      - ${process.execPath}
      - -e
      - require('http').createServer((q,r)=>setTimeout(()=>r.end('whole'),1500)).listen(process.env.PORT,process.env.HOST)`
  const serving = await startServe(fleetYaml({ services: slow }))
  const asked = get(`${serving.gateway}/slow/x`)
  const answered = once(asked, 'response') as Promise<[IncomingMessage]>
  await waitUntil(async () => {
    const cluster = await (await fetch(`${serving.admin}/api/clusters/slow`)).json()
    return (cluster as { inFlight: number }).inFlight === 1
  })
  leave(serving)
  // The next line of the log is the first that nobody reads.
  serving.process.kill('SIGHUP')
  const [response] = await answered
  expect(response.statusCode).toBe(200)
  expect(await text(response)).toBe('whole')
  const { code, stderr } = await serving.ended
  expect(stderr).toMatch(/nobody reads the output any more: the command ends, as at SIGTERM/)
  expect(code).toBe(143)
})

it('top, and status that watches, end when nobody reads on, and not with 0; status itself has done its work', async () => {
  const { admin } = await startServe(fleetYaml())
  const codes: Record<string, number> = { top: 143, 'status --watch': 143 }
  for (const [words, expected] of Object.entries(codes)) {
    const child = startProgram([...words.split(' '), '--admin', admin])
    await child.waitForOutput(/calc/)
    leave(child)
    expect((await child.ended).code, words).toBe(expected)
  }
  const child = startProgram(['status', '--admin', admin])
  leave(child)
  expect((await child.ended).code).toBe(0)
})

it('every command has a rule, and only those that list end with 0 at once', () => {
  const listing = ALL_COMMANDS.filter(({ whenUnread: unread }) =>
    typeof unread === 'function' ? unread({}) === 'end' : unread === 'end',
  )
  expect(listing.map(({ name }) => name).toSorted()).toEqual([
    'completion',
    'config get',
    'config which',
    'logs',
    'status',
    'tasks info',
    'tasks list',
  ])
})
