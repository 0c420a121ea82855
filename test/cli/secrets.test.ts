/** Secrets that were given to a command: who sees them, and who reads the files and sockets that it makes. */
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createFolder, runManyhost } from './help.ts'

const SECRETS = {
  MANYHOST_TOKEN: 's3cret-1',
  MANYHOST_TASKS_TOKEN: 's3cret-2-long-enough',
  MANYHOST_FEED_SECRET: 's3cret-3',
  MANYHOST_AGENT_KEY: 's3cret-4-long-enough',
  MANYHOST_LIST_STORE: 'postgres://me:s3cret-5@db/x',
}

test('a task sees none of them, but what was exported and what is its own', async () => {
  const at = createFolder()
  const env = { ...SECRETS, PGPASSWORD: 'mine', XDG_DATA_HOME: at, MANYHOST_EXPORT_API: 'given' }
  const ended = await runManyhost(['tasks', 'cluster', '-E'], {
    env,
    input: 'env; tr "\\0" "\\n" </proc/$PPID/environ\n',
  })
  expect(ended.code).toBe(0)
  expect(ended.stdout).not.toContain('s3cret')
  expect(ended.stdout).toContain('PGPASSWORD=mine')
  expect(ended.stdout).toContain('API=given')
})

test.each([
  ['feed publish', ['feed', 'publish', '-s', 's3cret', '-c', 'x', 'y']],
  ['feed publish --secret=', ['feed', 'publish', '--secret=s3cret', '-c', 'x', 'y']],
  ['an option that is none', ['agent', '--key=s3cret']],
  ['a store', ['tasks', 'list', '--store', 'postgres://me:s3cret@127.0.0.1:1/x']],
  ['a store of another kind', ['tasks', 'list', '--store', 'mysql://me:s3cret@127.0.0.1:1/x']],
  ['a server', ['tasks', 'list', '--server', 'ftp://me:s3cret@127.0.0.1:1/x']],
  ['identities', ['feed', 'broker', '--auth', 'mysql://me:s3cret@127.0.0.1/x']],
  ['the admin address', ['status', '--admin', 'http://me:s3cret@127.0.0.1:1']],
])('a refusal does not repeat the secret: %s', async (_, args) => {
  const ended = await runManyhost(args, { env: { XDG_DATA_HOME: createFolder() } })
  expect(ended.code).not.toBe(0)
  expect(ended.stderr).not.toBe('')
  expect(ended.stdout + ended.stderr).not.toContain('s3cret')
})

test('the store, its companions, copies, captured outputs, failures and logs are for the user alone', async () => {
  const at = createFolder()
  mkdirSync(join(at, 'data'))
  const env = { XDG_DATA_HOME: join(at, 'data') }
  const [log, failures, copy] = ['log', 'failed', 'copy.db'].map((name) => join(at, name))
  const words = ['--capture', '--log-file', `${log}`, '--failures', `${failures}`]
  const input = 'echo hi; false\nfalse \\ # MANYHOST: a:1\n{ echo x\n'
  const ended = await runManyhost(['tasks', 'cluster', ...words], { env, input })
  expect(ended.code).toBe(1)
  const upkeep = ['tasks', 'initdb', '--backup', `${copy}`, '--rotate']
  expect((await runManyhost(upkeep, { env })).code).toBe(0)
  expect(readdirSync(at)).toEqual(expect.arrayContaining(['log', 'failed', 'copy.db']))
  const open: string[] = []
  for (const name of readdirSync(at, { recursive: true, encoding: 'utf8' })) {
    const { mode } = statSync(join(at, name))
    if (name !== 'data' && (mode & 0o077) !== 0) open.push(`${name} ${(mode & 0o777).toString(8)}`)
  }
  expect(open).toEqual([])
})
