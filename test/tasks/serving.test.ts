/** `manyhost tasks cluster | server | submit` and `manyhost run`, as child processes. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { openStore } from '../../src/tasks.ts'
import { createFolder, runManyhost, startProgram } from '../cli/help.ts'
import { waitUntil } from '../help.ts'

/** Most start the program several times, which takes seconds each on a busy machine. */
const PATIENT = { timeout: 180_000 }

/** A data folder of its own: no store and no token of whoever runs the tests. */
function home(files: Readonly<Record<string, string>> = {}) {
  const at = createFolder(files)
  return { at, env: { XDG_DATA_HOME: at, MANYHOST_STORE: '', MANYHOST_TASKS_TOKEN: '' } }
}

async function serving(env: Record<string, string>, more: readonly string[] = []) {
  const server = startProgram(['tasks', 'server', '-p', '0', '-N', '2', ...more], { env })
  const [, url = ''] = await server.waitForOutput(/tasks can be submitted at (\S+)/, 'stderr')
  return { ...server, url }
}

describe('manyhost tasks cluster', PATIENT, () => {
  it('runs what is piped in, prints what it writes, and ends with 0', async () => {
    const { env } = home()
    const input = 'one\ntwo\nthree\n'
    const ended = await runManyhost(['tasks', 'cluster', '-N', '2', '-t', 'echo got {}'], {
      env,
      input,
    })
    expect(ended.stdout.trim().split('\n').toSorted()).toEqual(['got one', 'got three', 'got two'])
    expect(ended.stderr).toMatch(/^manyhost: 3 succeeded, 0 failed, in /m)
    expect(ended.code).toBe(0)
    const listed = await runManyhost(['tasks', 'list', 'args', 'exit_status'], { env })
    expect(listed.stdout).toBe('one\t0\ntwo\t0\nthree\t0\n')
  })

  it('ends with 1 where tasks fail or lines are none, and hands the failed ones out', async () => {
    const { at, env } = home({ 'jobs.txt': 'true\nexit 4\ntrue # MANYHOST: cores:no\n' })
    const failed = join(at, 'failed.txt')
    const ended = await runManyhost(
      ['tasks', 'cluster', join(at, 'jobs.txt'), '--no-db', '-r', '1', '-f', failed],
      { env },
    )
    expect(ended.code).toBe(1)
    expect(ended.stderr).toMatch(/manyhost: line 3: .*cores/)
    expect(ended.stderr).toMatch(/1 succeeded, 1 failed, 1 more attempt/)
    expect(readFileSync(failed, 'utf8')).toBe('exit 4\n')
    // Kept in memory alone.
    expect(readdirSync(at).toSorted()).toEqual(['failed.txt', 'jobs.txt'])
  })

  it('goes on with --forever when its lines are done, until it is drained', async () => {
    const { at, env } = home()
    const cluster = startProgram(['tasks', 'cluster', '--forever', '-Q', '0.1', '--', '-'], { env })
    cluster.process.stdin?.end('true\n')
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    const done = (count: number) =>
      waitUntil(async () => (await store.counts()).succeeded === count)
    await done(1)
    await store.add([{ args: 'true' }])
    await done(2)
    await store.close()
    cluster.process.kill('SIGUSR1')
    expect((await cluster.ended).code).toBe(0)
  })

  it('prints the lines of what failed for good, and nothing that tasks write, with --print', async () => {
    const { env } = home()
    const args = ['tasks', 'cluster', '--no-db', '--print', '-r', '1']
    const input = 'echo good\necho bad; exit 3\ntest $TASK_ATTEMPT = 2\n'
    const ended = await runManyhost(args, { env, input })
    expect(ended).toMatchObject({ code: 1, stdout: 'echo bad; exit 3\n' })
  })

  it('takes lines of JSON: what is no field is a tag, which the template fills in', async () => {
    const { env } = home()
    const args = [
      'tasks',
      'cluster',
      '--from-json',
      '-t',
      'echo {} {site} {slot}',
      '--tag',
      'run:7',
    ]
    const input = '{"args":"a","site":"x"}\n{"site":"y","run":8}\n'
    const ended = await runManyhost(args, { env, input })
    expect(ended.stdout.trim().split('\n').toSorted()).toEqual(['a x 1', 'y 1'])
    const listed = await runManyhost(['tasks', 'list', 'args', 'tag', '--json'], { env })
    expect(JSON.parse(listed.stdout)).toEqual([
      { args: 'a', tag: { run: 7, site: 'x' } },
      { args: '', tag: { run: 8, site: 'y' } },
    ])
  })

  it('writes outputs to files with -o and -e', async () => {
    const { at, env } = home()
    const args = ['tasks', 'cluster', '--no-db', '-o', join(at, 'out'), '-e', join(at, 'err')]
    const ended = await runManyhost(args, { env, input: 'echo a; echo b >&2\n' })
    expect(ended).toMatchObject({ code: 0, stdout: '' })
    expect(readFileSync(join(at, 'out'), 'utf8')).toBe('a\n')
    expect(readFileSync(join(at, 'err'), 'utf8')).toBe('b\n')
  })

  it('adds to a log what becomes of tasks, as much as its level says', async () => {
    const { at, env } = home()
    const path = join(at, 'logs', 'tasks.log')
    const logged = async (input: string, ...more: string[]): Promise<Record<string, unknown>[]> => {
      const before = existsSync(path) ? readFileSync(path, 'utf8').length : 0
      const args = ['tasks', 'cluster', '--no-db', '--log-file', path, ...more]
      await runManyhost(args, { env, input })
      const lines = readFileSync(path, 'utf8').slice(before).trim().split('\n')
      return lines.map((line) => JSON.parse(line))
    }
    const input = 'true\nexit 3\ntrue # MANYHOST: cores:no\n'
    const all = await logged(input, '--log-level', 'debug', '-r', '1')
    const levels = all.map(({ level, msg }) => `${level} ${String(msg).replace(/:.*/, '')}`)
    expect(levels.toSorted()).toEqual([
      'debug succeeded',
      'info begun',
      'info ended',
      'info retried',
      'warn failed',
      'warn line 3',
    ])
    expect(all.find(({ msg }) => msg === 'failed')).toMatchObject({
      args: 'exit 3',
      attempt: 2,
      exitStatus: 3,
      time: expect.stringMatching(/^\d{4}-.*Z$/),
    })
    expect(all.at(-1)).toMatchObject({ msg: 'ended', succeeded: 1, failed: 1, retried: 1 })
    const warned = await logged('true\nexit 4\n', '--log-level', 'warn')
    expect(warned).toMatchObject([{ level: 'warn', msg: 'failed', exitStatus: 4 }])
    const lost = await logged('true\n', '-t', '{= 1 + =}', '--log-level', 'error')
    expect(lost).toMatchObject([{ level: 'error', msg: expect.stringMatching(/template/) }])
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const nowhere = ['tasks', 'cluster', '--no-db', '--log-file', `${path}/x`]
    const refused = await runManyhost(nowhere, { env, input })
    expect(refused).toMatchObject({ code: 5, stdout: '' })
    expect(refused.stderr).toMatch(/^manyhost: --log-file: /)
  })

  it('puts its log aside by size, compressed, and keeps so many', async () => {
    const { at, env } = home()
    const path = join(at, 'logs', 'tasks.log')
    const log = [
      '--log-file',
      path,
      '--log-level',
      'debug',
      '--log-size',
      '1000',
      '--log-keep',
      '2',
    ]
    const input = `${'true\n'.repeat(30)}exit 3\n`
    const run = ['tasks', 'cluster', '--no-db', ...log]
    expect((await runManyhost(run, { env, input })).code).toBe(1)
    expect(readdirSync(dirname(path)).toSorted()).toEqual([
      'tasks.log',
      'tasks.log.1.gz',
      'tasks.log.2.gz',
    ])
    const kept = [2, 1].map((index) => gunzipSync(readFileSync(`${path}.${index}.gz`)).toString())
    const lines = [...kept, readFileSync(path, 'utf8')].join('').trim().split('\n')
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ msg: 'ended', succeeded: 30, failed: 1 })
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('time')
    for (const wrong of [
      ['--log-every', '7h'],
      ['--log-size', 'x'],
      ['--log-keep', '0'],
    ]) {
      expect((await runManyhost([...run, ...wrong], { env, input })).code, wrong.join(' ')).toBe(2)
    }
  })

  it('says what is wrong before it starts anything', async () => {
    const { env } = home()
    const ends = [
      [['nowhere.txt'], /there is no file nowhere\.txt/],
      [['-t', '{= 1 + =}'], /template/],
      [['-A', 'elastic'], /--autoscaling: expected fixed or dynamic, got elastic/],
      [['-N', '-3'], /expected a whole number/],
      [['--restart', 'x.txt'], /give no file/],
    ] as const
    for (const [args, message] of ends) {
      const { code, stderr } = await runManyhost(['tasks', 'cluster', ...args], { env })
      expect(stderr).toMatch(message)
      expect(code).toBe(2)
    }
  })

  it('is interrupted by INT: what ran is in the store again, and --restart ends it', async () => {
    const { at, env } = home()
    const flag = join(at, 'flag')
    const line = `test -e ${flag} || { touch ${flag}; sleep 60; }`
    const cluster = startProgram(['tasks', 'cluster', '-S', '1', '--', '-'], { env })
    cluster.process.stdin?.end(`${line}\n`)
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    await waitUntil(async () => (await store.counts()).scheduled === 1)
    await waitUntil(() => existsSync(flag))
    cluster.process.kill('SIGINT')
    expect((await cluster.ended).code).toBe(4)
    expect(await store.counts()).toMatchObject({ new: 1, total: 1 })
    await store.close()
    const again = await runManyhost(['tasks', 'cluster', '--restart'], { env })
    expect(again.stderr).toMatch(/1 succeeded/)
    expect(again.code).toBe(0)
  })
})

describe('manyhost tasks server', PATIENT, () => {
  it('takes tasks over HTTP, and hands out what they wrote', async () => {
    const { env } = home()
    const server = await serving(env, ['--capture'])
    const at = ['--server', server.url]
    const submitted = await runManyhost(['tasks', 'submit', ...at, '--', 'echo', 'a b'], { env })
    const id = submitted.stdout.trim()
    expect(id).toMatch(/^[\da-f-]{36}$/)
    expect((await runManyhost(['tasks', 'wait', id, '-r'], { env })).code).toBe(0)
    const info = await runManyhost(['tasks', 'info', id, '-x', 'exit_status', ...at], { env })
    expect(info.stdout).toBe('0\n')
    expect((await runManyhost(['tasks', 'info', id, '--stdout', ...at], { env })).stdout).toBe(
      'a b\n',
    )
    const input = 'true\ntrue\n'
    const many = await runManyhost(['tasks', 'submit', '-f', '-', ...at, '-t', 'run:7'], {
      env,
      input,
    })
    expect(many.stderr).toMatch(/2 tasks, submit_id /)
    server.process.kill('SIGTERM')
    expect((await server.ended).code).toBe(4)
  })

  it('works a file off to its end with --until-done, and what is left with --restart', async () => {
    const { at, env } = home({ 'jobs.txt': 'true\ntrue\n' })
    const args = ['tasks', 'server', '-p', '0', '-N', '2']
    const file = await runManyhost([...args, join(at, 'jobs.txt'), '--until-done'], { env })
    expect(file).toMatchObject({ code: 0, stderr: expect.stringMatching(/2 succeeded, 0 failed/) })
    await runManyhost(['tasks', 'submit', '--', 'true'], { env })
    const left = await runManyhost([...args, '--restart'], { env })
    expect(left).toMatchObject({ code: 0, stderr: expect.stringMatching(/1 succeeded, 0 failed/) })
  })

  it('hands in a bundle at a time, and at INT what it has read', async () => {
    const { at, env } = home()
    const path = join(at, 'tasks.db')
    const store = await openStore(path)
    const args = ['tasks', 'submit', '-f', '-', '-b', '2', '-w', '3600', '--store', path]
    const submit = startProgram(args, { env })
    submit.process.stdin?.write('one\ntwo\nthree\nfour is no wh')
    await waitUntil(async () => (await store.count()) === 2)
    submit.process.kill('SIGINT')
    const { code, stderr } = await submit.ended
    expect(stderr).toMatch(/^manyhost: 3 tasks, submit_id /)
    expect(code).toBe(4)
    expect(await store.count({ where: ['args ~ ^(one|two|three)$'] })).toBe(3)
    expect(await store.count()).toBe(3)
    await store.close()
  })

  it('keeps of a submission what that wants kept, and what --monitor saw', async () => {
    const { at, env } = home()
    const { url } = await serving(env, ['--monitor'])
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    const run = async (...more: string[]): Promise<string> => {
      const args = ['tasks', 'submit', '--server', url, ...more, '--', 'echo out; echo err >&2']
      const id = (await runManyhost(args, { env })).stdout.trim()
      await waitUntil(async () => (await store.get(id)).completionTime !== null)
      return id
    }
    const id = await run('--capture')
    for (const where of [[], ['--server', url]]) {
      const of = (what: string) => runManyhost(['tasks', 'info', id, what, ...where], { env })
      expect((await of('--stderr')).stdout).toBe('err\n')
      expect((await of('--perf')).stdout).toMatch(/^time,cores,memory\n/)
    }
    expect(await store.get(await run())).toMatchObject({ outpath: null, errpath: null })
    await store.close()
  })

  it('takes nothing from a client without the token', async () => {
    const { env } = home()
    const server = await serving(env)
    const other = home()
    const args = ['tasks', 'submit', '--server', server.url, '--', 'true']
    const { code, stderr } = await runManyhost(args, { env: other.env })
    expect(stderr).toMatch(/needs its token/)
    expect(code).toBe(5)
    const answer = await fetch(`${server.url}/tasks`, { method: 'POST', body: '{"args":"true"}' })
    expect(answer.status).toBe(401)
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
  })

  it('drains with USR1: what runs ends, what waits stays in the store', async () => {
    const { at, env } = home()
    const server = await serving(env)
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    const wait = (name: string): string =>
      `touch ${at}/${name}; until test -e ${at}/go; do sleep 0.05; done`
    await store.add(['one', 'two', 'three'].map((name) => ({ args: wait(name) })))
    await waitUntil(() => existsSync(join(at, 'one')) && existsSync(join(at, 'two')))
    server.process.kill('SIGUSR1')
    // The signal has arrived when its health says so.
    await waitUntil(async () => (await fetch(`${server.url}/health`)).status === 503)
    writeFileSync(join(at, 'go'), '')
    expect((await server.ended).code).toBe(0)
    expect(await store.counts()).toMatchObject({ succeeded: 2, new: 1, total: 3 })
    await store.close()
  })

  it('stops with USR2: what runs is interrupted, and is in the store again', async () => {
    const { at, env } = home()
    const server = await serving(env, ['-S', '60'])
    const store = await openStore(join(at, 'manyhost', 'tasks.db'))
    const [id = ''] = await store.add([{ args: `touch ${at}/runs; sleep 600` }])
    await waitUntil(() => existsSync(join(at, 'runs')))
    server.process.kill('SIGUSR2')
    expect((await server.ended).code).toBe(0)
    expect(await store.get(id)).toMatchObject({ exitStatus: null, serverId: null, attempt: 1 })
    await store.close()
  })

  it('ends with 3 where its store or token is none, with 5 where its port is taken', async () => {
    const { at, env } = home()
    const server = await serving(env)
    const args = ['tasks', 'server', '-p', new URL(server.url).port]
    const taken = await runManyhost(args, { env: { ...env, MANYHOST_STORE: join(at, 'other.db') } })
    expect(taken).toMatchObject({ code: 5, stderr: expect.stringMatching(/EADDRINUSE/) })
    const short = { ...env, MANYHOST_TASKS_TOKEN: 'fifteen-letters' }
    const refused = await runManyhost(['tasks', 'server', '-p', '0'], { env: short })
    expect(refused).toMatchObject({ code: 3, stderr: expect.stringMatching(/16 characters/) })
    const newer = join(at, 'newer.db')
    const store = await openStore(newer)
    await store.statement("UPDATE meta SET value = 99 WHERE name = 'version'")
    await store.close()
    const ended = await runManyhost(['tasks', 'list', '--store', newer], { env })
    expect(ended).toMatchObject({ code: 3, stderr: expect.stringMatching(/newer/) })
  })
})

it('a fault of our own ends a command with 6, and shows where it was', async () => {
  const { env } = home()
  const broken = `const { stdout } = process, { write } = stdout
    stdout.write = () => { stdout.write = write; throw new TypeError('no such pipe') }`
  const options = `--import ${JSON.stringify(`data:text/javascript,${encodeURIComponent(broken)}`)}`
  const ended = await runManyhost(['tasks', 'initdb'], { env: { ...env, NODE_OPTIONS: options } })
  expect(ended.code).toBe(6)
  expect(ended.stderr).toMatch(/^manyhost: TypeError: no such pipe\n +at /m)
}, 180_000)

describe('manyhost run', PATIENT, () => {
  it('runs a command here where nobody serves the store, and ends as it did', async () => {
    const { env } = home()
    const one = await runManyhost(['run', '--', 'echo out; echo err >&2; exit 7'], { env })
    expect(one).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n' })
    const words = await runManyhost(['run', '--', 'printf', '%s|', 'a b', "it's"], { env })
    expect(words).toMatchObject({ code: 0, stdout: "a b|it's|" })
  })

  it('has it run by the server of the store, or of an address', async () => {
    const { env } = home()
    const server = await serving(env)
    const command = ['--', 'echo "$TASK_CLIENT_ID"; exit 5']
    const local = await runManyhost(['run', ...command], { env })
    expect(local).toMatchObject({ code: 5, stdout: expect.stringMatching(/^tasks-/) })
    const far = await runManyhost(['run', '--server', server.url, ...command], { env })
    expect(far).toMatchObject({ code: 5, stdout: local.stdout })
  })
})
