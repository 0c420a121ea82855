/** Where the command line has tasks run: services of a file, what a launcher starts, a server behind TLS. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import { FeedClient } from '../../../src/feed/index.ts'
import { waitUntil } from '../../help.ts'
import { agentsOf, pidsWith } from '../../tasks/runner-help.ts'
import { CALCULATOR, createFolder, runManyhost, startProgram } from '../help.ts'

/** Most start the program several times, which takes seconds each on a busy machine. */
const PATIENT = { timeout: 180_000 }

const FLEET = `providers:
  here: { type: process }
  far: { type: ssh, hosts: [127.0.0.1] }
services:
  http://calc:
    command: [${JSON.stringify(process.execPath)}, ${JSON.stringify(CALCULATOR)}]
    concurrency: 4
    ready: /health
`

function home(files: Readonly<Record<string, string>> = {}) {
  const at = createFolder({ 'fleet.yaml': FLEET, ...files })
  const env = { XDG_DATA_HOME: at, MANYHOST_STORE: '', MANYHOST_TASKS_TOKEN: '' }
  return { at, env, fleet: join(at, 'fleet.yaml') }
}

describe('--fleet', PATIENT, () => {
  it('has requests answered by the services of the file, beside shell tasks', async () => {
    const { env, fleet } = home()
    const args = ['tasks', 'cluster', '--fleet', fleet]
    const input = 'GET http://calc/add/20/1\nGET http://nobody/x\n'
    const requests = await runManyhost([...args, '--requests'], { env, input })
    expect(requests.stdout).toBe('21')
    expect(requests.stderr).toMatch(/GET http:\/\/nobody\/x: .*no service is at/)
    expect(requests.code).toBe(1)
    const listed = await runManyhost(['tasks', 'list', 'args', 'exit_status'], { env })
    expect(listed.stdout).toBe('GET http://calc/add/20/1\t0\nGET http://nobody/x\t404\n')
    const lines = '{"args":"echo shell"}\n{"request":{"url":"http://calc/add/1/1"}}\n'
    const mixed = await runManyhost([...args, '--from-json', '--no-db', '--provider', 'here'], {
      env,
      input: lines,
    })
    expect(mixed).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^(2\nshell\n|shell\n2)$/),
    })
  })

  it('runs one request, and a server takes requests', async () => {
    const { env, fleet } = home()
    const one = await runManyhost(['run', '--fleet', fleet, '--', 'GET', 'http://calc/add/1/2'], {
      env,
    })
    expect(one).toMatchObject({ code: 0, stdout: '3' })
    const server = startProgram(['tasks', 'server', '-p', '0', '--fleet', fleet], { env })
    const [, url = ''] = await server.waitForOutput(/submitted at (\S+)/, 'stderr')
    const far = ['run', '--server', url, '--request', '--', 'GET', 'http://calc/add/2/2']
    expect(await runManyhost(far, { env })).toMatchObject({ code: 0, stdout: '4' })
    const submit = ['tasks', 'submit', '--server', url, '--requests', '--']
    const wrong = await runManyhost([...submit, 'FETCH', 'x'], { env })
    expect(wrong).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/a request must be like/),
    })
    const id = (await runManyhost([...submit, 'GET', 'http://calc/add/3/3'], { env })).stdout.trim()
    const waited = await runManyhost(['tasks', 'wait', id, '-r'], { env })
    expect(waited.code).toBe(0)
  })

  it('--feed opens the feed of the file, which tells of tasks', async () => {
    const secret = 'a-secret-of-this-test'
    const feed = `feed:
  listen: 127.0.0.1:0
  identities: { eye: { secret: ${secret}, subscribe: [manyhost.task] } }
`
    const { env, fleet } = home({ 'feed.yaml': `${FLEET}${feed}` })
    const file = join(fleet, '..', 'feed.yaml')
    const server = startProgram(['tasks', 'server', '-p', '0', '--fleet', file, '--feed'], { env })
    const [, port] = await server.waitForOutput(
      /the feed listens at tcp:\/\/127\.0\.0\.1:(\d+)/,
      'stderr',
    )
    const [, url = ''] = await server.waitForOutput(/submitted at (\S+)/, 'stderr')
    await using client = new FeedClient({
      host: '127.0.0.1',
      port: Number(port),
      ident: 'eye',
      secret,
    })
    client.subscribe('manyhost.task')
    await client.ready()
    const heard = client[Symbol.asyncIterator]().next()
    const submit = ['tasks', 'submit', '--server', url, '--', 'exit', '7']
    const { stdout: id } = await runManyhost(submit, { env })
    const told = JSON.parse(String((await heard).value?.payload))
    expect(told).toMatchObject({ event: 'task', task: id.trim(), outcome: 'failed', exitStatus: 7 })
  })

  it('says what is wrong before anything starts', async () => {
    const { env, fleet } = home({ 'bad.yaml': 'services: { http://x: { comand: [y] } }' })
    const ends = [
      [['--requests'], /--requests needs the fleet file/, 2],
      [['--provider', 'here'], /need a fleet file: give --fleet/, 2],
      [['--provider', 'x', '--fleet', fleet], /there is no provider x; the file has here, far/, 3],
      [['--ssh-group', 'here', '--fleet', fleet], /here is a provider of type process, not ssh/, 3],
      [['--feed'], /--feed needs a fleet file/, 2],
      [['--feed', '--fleet', fleet], /the file has no feed/, 3],
      [['--ssh', 'h', '--mpi'], /give one of --ssh/, 2],
      [['--fleet', join(fleet, '..', 'bad.yaml')], /comand/, 3],
      [['--ssh', 'h', '--ssh-args', '-A -i k'], /--ssh-args: .*got A/, 2],
      [['--ssh', 'a[2-1]'], /must begin with its smaller number/, 2],
      [['--from-json', '--requests', '--fleet', fleet], /--from-json or --requests, not both/, 2],
    ] as const
    for (const [args, message, expected] of ends) {
      const { code, stderr } = await runManyhost(['tasks', 'cluster', ...args], {
        env,
        input: 'x\n',
      })
      expect(stderr).toMatch(message)
      expect(code, args.join(' ')).toBe(expected)
    }
  })
})

describe('--launcher', PATIENT, () => {
  it('runs tasks on what it started, and ends that at the end', async () => {
    const { env, at } = home({
      // Two at once, as `mpirun -n 2` would.
      'twice.sh': 'echo $$ > "$0.pid"; "$@" & "$@" & wait',
    })
    const launcher = `sh ${join(at, 'twice.sh')}`
    // Each waits for the other: they run at the same time, on two runners of one place.
    const meet = `touch ${at}/{}; until test -e ${at}/$((1-{})); do sleep 0.05; done; echo $TASK_CLIENT_ID`
    const ended = await runManyhost(
      ['tasks', 'cluster', '--no-db', '--launcher', launcher, '-t', meet],
      { env, input: '0\n1\n' },
    )
    expect(ended.stderr).toMatch(/2 succeeded, 0 failed/)
    expect(new Set(ended.stdout.trim().split('\n')).size).toBe(2)
    expect(ended.code).toBe(0)
    const pid = spawnSync('cat', [join(at, 'twice.sh.pid')], { encoding: 'utf8' }).stdout.trim()
    expect(() => process.kill(Number(pid), 0)).toThrow(/ESRCH/)
  })

  it('is called for each runner with -I, and hands variables on with -E', async () => {
    const { env } = home()
    const args = ['tasks', 'cluster', '--no-db', '--launcher', 'nice', '-I', '2', '-E']
    const more = { ...env, MANYHOST_EXPORT_COLOUR: 'red' }
    const ended = await runManyhost(args, { env: more, input: 'echo $COLOUR\necho $COLOUR\n' })
    expect(ended).toMatchObject({ code: 0, stdout: 'red\nred\n' })
  })

  it('whose cluster was killed with KILL: nothing that it started stays', async () => {
    // A pipe to the dead would end what writes to it.
    const { env, at } = home({ 'quiet.sh': 'exec "$@" >/dev/null 2>&1' })
    const launcher = `sh ${join(at, 'quiet.sh')}`
    const mark = `orphans-${process.pid}`
    const cluster = startProgram(
      ['tasks', 'cluster', '--no-db', '--launcher', launcher, '--hub-timeout', '10'],
      { env: { ...env, MANYHOST_MARK: mark } },
    )
    cluster.process.stdin?.end(`touch ${at}/runs; sleep 600\n`)
    await waitUntil(() => existsSync(join(at, 'runs')))
    expect(agentsOf(mark)).toHaveLength(1)
    cluster.process.kill('SIGKILL')
    await waitUntil(() => pidsWith(mark).length === 0)
  })

  it('that fails ends the cluster, and its tasks stay', async () => {
    const { env } = home()
    const args = ['tasks', 'cluster', '--launcher']
    const none = await runManyhost([...args, 'no-such-launcher'], { env, input: 'true\n' })
    expect(none.stderr).toMatch(
      /no-such-launcher cannot be started: .*no process is left that could run tasks/,
    )
    expect(none.code).toBe(5)
    const bad = await runManyhost([...args, 'sh -c false'], { env, input: 'true\n' })
    expect(bad).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/ended with 1; no process is left/),
    })
    const open = await runManyhost([...args, 'nice', '--bind', '0.0.0.0:0'], {
      env,
      input: 'true\n',
    })
    expect(open).toMatchObject({ code: 2, stderr: expect.stringMatching(/give tls, or insecure/) })
  })
})

describe('a server behind TLS', PATIENT, () => {
  it('takes tasks from who trusts it, whoever else sits on its port', async () => {
    const { at, env } = home()
    const [cert, key] = [join(at, 'cert.pem'), join(at, 'key.pem')]
    const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x'
    const names = ['-addext', 'subjectAltName=IP:127.0.0.1', '-out', cert, '-keyout', key]
    expect(spawnSync('openssl', [...args.split(' '), ...names]).status).toBe(0)
    const server = startProgram(
      ['tasks', 'server', '-p', '0', '-H', '0.0.0.0', '--tls-cert', cert, '--tls-key', key],
      { env },
    )
    const [, port] = await server.waitForOutput(/submitted at https:\/\/0\.0\.0\.0:(\d+)/, 'stderr')
    // Of the ancestor, one that says nothing keeps all others out.
    const idle = connect(Number(port), '127.0.0.1')
    onTestFinished(() => void idle.destroy())
    await new Promise((resolve) => idle.once('connect', resolve))
    // Whatever a client would put up with: nothing older than TLS 1.2 is spoken.
    const old = {
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    } as const
    const spoken = tls.connect({
      ...old,
      port: Number(port),
      host: '127.0.0.1',
      ca: readFileSync(cert),
    })
    const [refusal] = await once(spoken, 'error')
    expect((refusal as NodeJS.ErrnoException).code).toMatch(/PROTOCOL_VERSION/)
    const run = ['run', '--server', `https://127.0.0.1:${port}`, '--', 'echo', 'hi']
    const trusting = { ...env, MANYHOST_TASKS_CA: cert }
    expect(await runManyhost(run, { env: trusting })).toMatchObject({ code: 0, stdout: 'hi\n' })
    const stranger = await runManyhost(run, { env })
    expect(stranger).toMatchObject({
      code: 5,
      stdout: '',
      stderr: expect.stringMatching(/certificate/),
    })
  })

  it('is wanted by other machines than this one', async () => {
    const { env } = home()
    const open = await runManyhost(['tasks', 'server', '-p', '0', '-H', '0.0.0.0'], { env })
    expect(open.stderr).toMatch(/0\.0\.0\.0 can be reached from other machines.*give certFile/)
    expect(open.code).toBe(2)
    const token = { ...env, MANYHOST_TASKS_TOKEN: 'a-token-of-16-or-more' }
    const clear = await runManyhost(['run', '--server', 'http://192.0.2.1:1', '--', 'x'], {
      env: token,
    })
    expect(clear.stderr).toMatch(/token could be read on the way: use https/)
    expect(clear.code).toBe(2)
  })
})
