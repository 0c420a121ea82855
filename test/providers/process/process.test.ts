import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ProcessOptions, processes } from '../../../providers/process/index.ts'
import { ManyhostError } from '../../../src/core/errors.ts'
import type { ListenOn, Provider, Running, StartSpec } from '../../../src/core/provider.ts'
import { createMemoryMeter } from '../../help.ts'
import { portBase } from '../../ports.ts'
import { get, isAlive, pidsWith, server, specOf, waitUntil } from '../process-help.ts'

const onePort = portBase
const signal = new AbortController().signal
const folder = mkdtempSync(join(tmpdir(), 'manyhost-test-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let provider: Provider
beforeEach(() => {
  provider = processes()
})
afterEach(() => provider.close?.())

async function start(part: Partial<StartSpec>): Promise<Running> {
  return provider.start(specOf(part), { signal: new AbortController().signal })
}

/** Starts, and waits until it accepts connections. */
async function startServer(part: Partial<StartSpec> = {}, ...args: string[]): Promise<Running> {
  const what = part.startup ? {} : { command: ['node', server, ...args] }
  const running = await start({ ...what, ...part })
  const { signal: own } = new AbortController()
  await waitUntil(() => running.accepts?.(own).then(() => true) ?? false)
  return running
}

function failureOf(promise: Promise<unknown>): Promise<ManyhostError> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: ManyhostError) => error,
  )
}

/** Pids of all that was started for this spec. */
function pidsOf(spec: { id: string }): number[] {
  return pidsWith(`MANYHOST_INSTANCE=${spec.id}\0`)
}

describe('a command', () => {
  test('serves requests where it is told to listen, and its output is passed on', async () => {
    const spec = specOf({ env: { COLOUR: 'blue' } })
    const running = await startServer(spec)
    const env = JSON.parse(await get(running.dispatcher, '/env'))
    expect(running.address).toBe(`http://${env.HOST}:${env.PORT}`)
    expect(env).toMatchObject({ HOST: '127.0.0.1', COLOUR: 'blue', PATH: process.env.PATH })
    expect(env.MANYHOST_INSTANCE).toBe(spec.id)
    await running.stop(1_000_000)
    expect(spec.output).toContain('listens\n')
    expect(spec.output).toContain('no warnings\n')
  })

  test('inherits nothing with inheritEnv: false, and gets the variables of the provider', async () => {
    provider = processes({ inheritEnv: false, env: { A: '1', B: '1' } })
    const spec = specOf({ command: ['/usr/bin/env'], env: { B: '2' } })
    const running = await provider.start(spec, { signal })
    await running.exited
    const names = spec.output.trim().split('\n').sort()
    expect(names.map((line) => line.split('=')[0])).toEqual(
      'A B HOST MANYHOST_INSTANCE MANYHOST_SESSION PORT'.split(' '),
    )
    expect(names.slice(0, 2)).toEqual(['A=1', 'B=2'])
  })

  test('listens on a unix socket', async () => {
    process.env.PORT = '1'
    const running = await startServer({ listen: 'unix' })
    delete process.env.PORT
    const env = JSON.parse(await get(running.dispatcher, '/env'))
    expect(running.address).toBe(`unix:${env.SOCKET_PATH}`)
    expect(env.PORT).toBeUndefined()
    await running.stop(1_000_000)
    expect(existsSync(env.SOCKET_PATH)).toBe(false)
  })

  test('runs in its folder, which is relative to that of the provider', async () => {
    provider = processes({ cwd: '/usr' })
    const spec = specOf({ command: ['pwd'], cwd: 'bin' })
    await (await provider.start(spec, { signal })).exited
    expect(spec.output).toMatch(/^\/usr\/bin\n$/)
  })

  test('that does not exist', async () => {
    const error = await failureOf(start({ command: ['no-such-command', 'x'] }))
    expect(error.code).toBe('MANYHOST_START_FAILED')
    expect(error.message).toBe(`command 'no-such-command' not found (ENOENT)`)
  })

  test('in a folder that does not exist, or that is a file', async () => {
    const missing = await failureOf(start({ command: ['true'], cwd: '/no/such/folder' }))
    expect(missing.code).toBe('MANYHOST_START_FAILED')
    expect(missing.message).toMatch(/^cwd '\/no\/such\/folder' does not exist/)
    const file = await failureOf(start({ command: ['true'], cwd: server }))
    expect(file.message).toMatch(/is not a folder/)
  })

  test('that is not executable', async () => {
    const error = await failureOf(start({ command: [server] }))
    expect(error.message).toMatch(/is not executable/)
  })

  test('twenty at once have distinct ports, and all serve', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => startServer()))
    expect(new Set(all.map((running) => running.address)).size).toBe(20)
    const pids = await Promise.all(all.map((running) => get(running.dispatcher, '/pid')))
    expect(new Set(pids).size).toBe(20)
  })

  test('a port is free again after the end', async () => {
    provider = processes({ ports: [onePort, onePort] })
    const running = await start({ command: ['sleep', '1000'] })
    const error = await failureOf(start({ command: ['sleep', '1000'] }))
    expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
    expect(error.message).toContain(`no free port on 127.0.0.1 in ${onePort}..${onePort}`)
    await running.stop(1_000)
    await (await start({ command: ['sleep', '1000'] })).stop(0)
  })

  test('prints without end: it is not held up, and its output is not kept', async () => {
    const total = 200_000_000
    const held = await createMemoryMeter()
    const before = held()
    let [length, peak, next] = [0, 0, 0]
    const onOutput = (text: string): void => {
      length += text.length
      if (length < next) return
      next += total / 20
      peak = Math.max(peak, held() - before)
    }
    const running = await start({ command: ['sh', '-c', `yes | head -c ${total}`], onOutput })
    expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 0' })
    expect(length).toBe(total)
    expect(peak).toBeLessThan(total / 20)
  })

  test('characters that are cut by a chunk are put together', async () => {
    const spec = specOf({ command: ['sh', '-c', `printf '\\303'; sleep 0.05; printf '\\244'`] })
    await (await provider.start(spec, { signal })).exited
    expect(spec.output).toBe('ä')
  })
})

describe('the end', () => {
  test('an exit code', async () => {
    const running = await startServer()
    await get(running.dispatcher, '/exit?3').catch(() => {})
    expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 3' })
  })

  test('a signal', async () => {
    const running = await startServer()
    process.kill(Number(await get(running.dispatcher, '/pid')), 'SIGKILL')
    expect(await running.exited).toEqual({ reason: 'killed', detail: 'killed by SIGKILL' })
  })

  test('all its output comes before `exited`', async () => {
    const spec = specOf({ command: ['sh', '-c', 'head -c 60000 /dev/zero; echo last words'] })
    const running = await provider.start(spec, { signal })
    await running.exited
    expect(spec.output.endsWith('last words\n')).toBe(true)
  })

  test('requests in flight fail at once, after `exited`, and say why', async () => {
    const spec = specOf({
      // The server has left the group, so its connections outlive the leader: only `destroy` can end them.
      command: ['sh', '-c', `setsid node ${server} & echo $$ leads; exec sleep 1000`],
      concurrency: 2,
    })
    const running = await startServer(spec)
    const order: string[] = []
    void running.exited.then(() => order.push('exited'))
    const stalled = failureOf(get(running.dispatcher, '/hang'))
    void stalled.then(() => order.push('failed'))
    await get(running.dispatcher, '/pid')
    // Who leads says so by another way than the server's.
    const [, leader] = await waitUntil(() => /(\d+) leads/.exec(spec.output) ?? false)
    process.kill(Number(leader), 'SIGKILL')
    const error = await stalled
    expect(error.code).toBe('MANYHOST_INSTANCE_ENDED')
    expect(error.message).toBe(`instance ${spec.id} ended: killed by SIGKILL`)
    expect(order).toEqual(['exited', 'failed'])
    expect((await failureOf(get(running.dispatcher, '/pid'))).message).toBeTruthy()
  })

  test('stop while a request is in flight that never ends', async () => {
    const running = await startServer({}, '--deaf')
    const stalled = failureOf(get(running.dispatcher, '/hang'))
    await running.stop(50)
    expect((await stalled).message).toBeTruthy()
    expect(await running.exited).toEqual({
      reason: 'stopped',
      detail: 'stopped: killed by SIGKILL',
    })
  })

  test('stop sends SIGTERM first', async () => {
    const spec = specOf({
      command: ['sh', '-c', `trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done`],
    })
    const running = await provider.start(spec, { signal })
    await waitUntil(() => spec.output.includes('up'))
    await running.stop(1_000_000)
    expect(spec.output).toContain('bye')
    expect(await running.exited).toEqual({ reason: 'stopped', detail: 'stopped: exit code 7' })
  })

  test('stop of a stopped (SIGSTOP) process needs force', async () => {
    const spec = specOf()
    const running = await startServer(spec)
    const pid = Number(await get(running.dispatcher, '/pid'))
    process.kill(pid, 'SIGSTOP')
    await waitUntil(() => / T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')))
    await running.stop(100)
    expect(isAlive(pid)).toBe(false)
    expect((await running.exited).detail).toBe('stopped: killed by SIGKILL')
  })

  test('a second stop shortens the grace; all of them end together', async () => {
    const running = await startServer({}, '--deaf')
    const first = running.stop(1_000_000)
    void running.stop(2_000_000_000)
    const second = running.stop(10)
    await Promise.all([first, second])
    await running.stop(1_000_000)
    expect((await running.exited).reason).toBe('stopped')
  })

  test('stop after the end resolves, and the reason stays', async () => {
    const running = await start({ command: ['true'] })
    await running.exited
    await running.stop(1_000)
    expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 0' })
  })

  test('the rest of the group dies with its leader', async () => {
    const spec = specOf({ command: ['sh', '-c', `trap '' TERM; sleep 1000 & exit 5`] })
    const running = await provider.start(spec, { signal })
    expect((await running.exited).detail).toBe('exit code 5')
    await running.stop(0)
    expect(pidsOf(spec)).toEqual([])
  })

  test('a process that ignores SIGTERM does not outlive the leader of its group', async () => {
    const spec = specOf({
      command: ['sh', '-c', `(trap '' TERM; echo deaf; exec sleep 1000) & exec sleep 1000`],
    })
    const running = await provider.start(spec, { signal })
    await waitUntil(() => spec.output.includes('deaf'))
    await running.stop(1_000_000)
    expect(pidsOf(spec)).toEqual([])
    expect((await running.exited).detail).toBe('stopped: killed by SIGTERM')
  })

  test('accepts is refused when nobody listens, and ends with its signal', async () => {
    const running = await start({ command: ['sleep', '1000'] })
    await expect(running.accepts?.(signal)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    const reason = new Error('enough')
    await expect(running.accepts?.(AbortSignal.abort(reason))).rejects.toBe(reason)
  })
})

describe('a startup function', () => {
  test('runs, spawns, adds to the environment, and logs', async () => {
    const seen: ListenOn[] = []
    const spec = specOf({
      env: { A: '1' },
      startup: async (context, listenOn) => {
        seen.push(listenOn)
        context.log('prepares')
        const text = await context.run('sh', '-c', 'echo "$A $B $PORT"; echo aside >&2')
        context.env.B = text.trim()
        expect(context.env).toMatchObject({ A: '1', HOST: '127.0.0.1' })
        await context.spawn('node', server)
      },
    })
    const running = await startServer(spec)
    const env = JSON.parse(await get(running.dispatcher, '/env'))
    expect(seen).toEqual([{ host: '127.0.0.1', port: Number(env.PORT) }])
    expect(env.B).toBe(`1  ${env.PORT}`)
    expect(spec.output).toMatch(/^prepares\n/)
    expect(spec.output).toContain('aside\n')
    await get(running.dispatcher, '/exit?4').catch(() => {})
    expect((await running.exited).detail).toBe('exit code 4')
  })

  test('copies files and folders both ways', async () => {
    const cwd = mkdtempSync(join(folder, 'instance-'))
    const home = mkdtempSync(join(folder, 'home-'))
    const text = (...path: string[]): string => readFileSync(join(...path), 'utf8')
    writeFileSync(join(home, 'a.txt'), 'a')
    await start({
      cwd,
      startup: async (context) => {
        await context.upload(join(home, 'a.txt'), 'b.txt')
        await context.upload(join(home, 'a.txt'), 'deep/er/')
        await context.upload(home, 'all')
        await context.run('sh', '-c', 'cat b.txt all/a.txt > deep/c.txt')
        await context.download('deep', join(home, 'back'))
        await context.download('b.txt', home)
        // Where it is already.
        await context.upload(join(cwd, 'b.txt'), 'b.txt')
      },
    })
    expect(text(cwd, 'deep/er/a.txt')).toBe('a')
    expect(text(home, 'back/c.txt')).toBe('aa')
    expect(text(home, 'b.txt')).toBe('a')
    const error = await failureOf(start({ startup: (context) => context.upload('/no/file', 'x') }))
    expect(error.code).toBe('MANYHOST_START_FAILED')
    expect(error.message).toMatch(/^cannot upload '\/no\/file' to 'x': ENOENT/)
  })

  test('a run that fails ends the start, with its last output', async () => {
    const error = await failureOf(
      start({
        startup: async (context) =>
          void (await context.run('sh', '-c', 'echo no disk >&2; exit 3')),
      }),
    )
    expect(error.code).toBe('MANYHOST_RUN_FAILED')
    expect(error.message).toBe(`'sh -c echo no disk >&2; exit 3' failed: exit code 3: no disk`)
    expect(error.output).toBe('no disk\n')
  })

  test('a run that is killed fails as well', async () => {
    const run = start({
      startup: async (context) => void (await context.run('sh', '-c', 'kill -9 $$')),
    })
    expect((await failureOf(run)).message).toMatch(/failed: killed by SIGKILL$/)
  })

  test('a run keeps the last 1 MiB', async () => {
    let length = 0
    let end = ''
    await start({
      startup: async (context) => {
        const text = await context.run('sh', '-c', 'yes | head -c 5000000; echo end')
        length = text.length
        end = text.slice(-4)
      },
    })
    expect(length).toBe(1_048_576)
    expect(end).toBe('end\n')
  })

  test('many runs at once each get all of their output', async () => {
    const texts = new Set<string>()
    await start({
      startup: async (context) => {
        const run = (i: number) => context.run('sh', '-c', `head -c 9000 /dev/zero; echo ${i}`)
        const all = await Promise.all(Array.from({ length: 60 }, (_, i) => run(i)))
        for (const text of all) texts.add(text.slice(9000))
      },
    })
    expect(texts).toEqual(new Set(Array.from({ length: 60 }, (_, i) => `${i}\n`)))
  })

  test('a background process of a run delays nothing, and dies with the instance', async () => {
    const spec = specOf({
      startup: async (context) => {
        expect(await context.run('sh', '-c', `node ${server} & echo started`)).toContain('started')
      },
    })
    const running = await startServer(spec)
    expect(await get(running.dispatcher, '/pid')).toMatch(/^\d+$/)
    expect(pidsOf(spec)).toHaveLength(1)
    await running.stop(1_000_000)
    expect(pidsOf(spec)).toEqual([])
    expect(await running.exited).toEqual({ reason: 'stopped', detail: 'stopped' })
  })

  test('a background process outside the group delays nothing either', async () => {
    const spec = specOf({
      startup: async (context) => {
        expect(await context.run('sh', '-c', 'setsid sleep 1000 & echo out')).toBe('out\n')
      },
    })
    const running = await provider.start(spec, { signal })
    await running.stop(1_000_000)
    await waitUntil(() => pidsOf(spec).length === 0)
  })

  test('that throws: all its processes end, and its address is free', async () => {
    provider = processes({ ports: [onePort, onePort] })
    const cause = new Error('second thoughts')
    const spec = specOf({
      startup: async (context) => {
        await context.spawn('sleep', '1000')
        await context.run('sh', '-c', 'sleep 1000 &')
        throw cause
      },
    })
    const error = await failureOf(provider.start(spec, { signal }))
    expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED', cause })
    expect(error.message).toContain('second thoughts')
    expect(pidsOf(spec)).toEqual([])
    await start({ command: ['sleep', '1000'] })
  })

  test('a ManyhostError passes unchanged', async () => {
    const mine = new ManyhostError('MANYHOST_UNSUPPORTED', 'not here')
    const startup = (): void => {
      throw mine
    }
    expect(await failureOf(start({ startup }))).toBe(mine)
  })

  test('a spawn of a missing command rejects', async () => {
    const startup: StartSpec['startup'] = (context) => context.spawn('no-such-server')
    const error = await failureOf(start({ startup }))
    expect(error.message).toBe(`command 'no-such-server' not found (ENOENT)`)
  })

  test('if a spawned command ends while the function still runs, the start fails', async () => {
    const error = await failureOf(
      start({
        startup: async (context) => {
          await context.spawn('sh', '-c', 'echo bad config; exit 9')
          await new Promise(() => {})
        },
      }),
    )
    expect(error.code).toBe('MANYHOST_START_FAILED')
    expect(error.message).toMatch(/it ended: exit code 9$/)
    expect(error.output).toBe('bad config\n')
  })

  test('its signal is aborted when the instance ends', async () => {
    let ended: AbortSignal | undefined
    const running = await start({
      startup: async (context) => {
        ended = context.signal
        await context.spawn('sleep', '1000')
      },
    })
    expect(ended?.aborted).toBe(false)
    await running.stop(1_000)
    expect(ended?.reason).toMatchObject({ code: 'MANYHOST_INSTANCE_ENDED' })
  })
})

describe('a start that is given up', () => {
  test('leaves nothing, whatever the function does after that', async () => {
    provider = processes({ ports: [onePort, onePort] })
    const controller = new AbortController()
    const later: unknown[] = []
    let resume = (): void => {}
    const spec = specOf({
      startup: async (context) => {
        await context.spawn('sh', '-c', `trap '' TERM; sleep 1000`)
        void context.run('sleep', '1000').catch((error) => later.push(error.code))
        await new Promise<void>((resolve) => {
          resume = resolve
          controller.abort()
        })
        await context.spawn('sleep', '1000').catch((error) => later.push(error.code))
      },
    })
    const error = await failureOf(provider.start(spec, { signal: controller.signal }))
    expect(error.code).toBe('MANYHOST_START_FAILED')
    expect(error.message).toMatch(/given up/)
    expect(pidsOf(spec)).toEqual([])
    resume()
    await waitUntil(() => later.length === 2)
    expect(later).toEqual(['MANYHOST_INSTANCE_ENDED', 'MANYHOST_INSTANCE_ENDED'])
    expect(pidsOf(spec)).toEqual([])
    await start({ command: ['sleep', '1000'] })
  })

  test('before it began starts nothing', async () => {
    const reason = new ManyhostError('MANYHOST_START_TIMEOUT', 'too late')
    const spec = specOf({ command: ['sleep', '1000'] })
    const given = provider.start(spec, { signal: AbortSignal.abort(reason) })
    expect(await failureOf(given)).toBe(reason)
    expect(pidsOf(spec)).toEqual([])
  })

  test('with nothing to start', async () => {
    expect((await failureOf(start({}))).code).toBe('MANYHOST_UNSUPPORTED')
  })
})

describe('options', () => {
  test.each<[unknown, string]>([
    [{ prots: [1, 2] }, `processes: unknown option 'prots'`],
    [
      { ports: [0, 10] },
      'ports must be [from, to], whole numbers from 1 to 65535, from <= to, got [0,10]',
    ],
    [{ ports: [20, 10] }, 'got [20,10]'],
    [{ ports: 8080 }, 'got 8080'],
    [{ ports: [1, 70_000] }, 'got [1,70000]'],
    [{ listen: 'udp' }, `listen must be 'tcp', 'unix', got "udp"`],
    [{ host: '' }, 'host must be an address of this machine, got ""'],
    [{ env: { A: [] } }, 'env must be an object of strings, got {"A":[]}'],
    [{ inheritEnv: 'no' }, 'inheritEnv must be true or false, got "no"'],
    [{ cwd: 3 }, 'cwd must be the path of a folder, got 3'],
  ])('%j is refused', (options, text) => {
    expect(() => processes(options as ProcessOptions)).toThrow(
      expect.objectContaining({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringContaining(text),
      }),
    )
  })

  test('a wildcard host is reached over the loopback', async () => {
    provider = processes({ host: '0.0.0.0' })
    const running = await startServer()
    expect(JSON.parse(await get(running.dispatcher, '/env')).HOST).toBe('0.0.0.0')
    expect(running.address).toMatch(/^http:\/\/127\.0\.0\.1:/)
  })

  test('names its capabilities', () => {
    expect(provider.name).toBe('process')
    expect([...provider.capabilities].sort()).toEqual([
      'command',
      'function',
      'image',
      'unix-socket',
    ])
  })
})
