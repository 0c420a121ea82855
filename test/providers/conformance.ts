/**
 * The tests that every provider must pass with its real engine. The test file of a provider makes a harness and calls
 * `conformance(harness)`. The harness names in `cannot` what its engine does not have, with the reason. The reason is
 * part of the name of the test that is skipped.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Exit, Provider, Running, StartSpec, Startup } from '../../src/core/provider.ts'
import { resolveWithin, sleep } from '../../src/core/time.ts'
import { Session } from '../../src/index.ts'
import { nextEvent, rejectionOf, waitForReady } from '../help.ts'
import { type Orphans, orphans } from './conformance-orphans.ts'
import { get, specOf, waitUntil } from './process-help.ts'

/** Features that an engine may not have. */
type Trait =
  | 'labels'
  | 'resources'
  | 'out of memory'
  | 'freeze'
  | 'unreachable'
  | 'function'
  | 'stop by signal'
  | 'sweep'

export interface Harness {
  readonly name: string
  /** A provider as a user would make it. The suite closes it. */
  provider(): Provider
  /** What each startup on this engine needs beside its command: the image, for instance. */
  readonly base?: { readonly image?: string }
  /** The command that runs `test/fakes/conformance-server.mjs` where the instance is. */
  server(...args: string[]): readonly string[]
  /** An existing or creatable folder on the instance's machine, which the harness removes in the end. */
  readonly scratch: string
  /** Whether the engine still has anything of the instance, running or not. */
  exists(id: string): Promise<boolean>
  /** Ends the instance's server by SIGKILL, by the engine's own means or the system's, behind the provider's back. */
  kill(id: string): Promise<void>
  /** Halts the processes of the instance, and lets them go on. */
  freeze?(id: string): Promise<void>
  thaw?(id: string): Promise<void>
  /** Labels and limits as the engine has them. */
  labels?(id: string): Promise<Readonly<Record<string, string>>>
  resources?(id: string): Promise<{ cpus?: number; memory?: number }>
  /** The engine answers nobody until the function that this resolves with is called; instances run on. */
  unreachable?(): Promise<() => Promise<void>>
  /** How the provider is made in another process, and whether it leaves anything when that is killed. */
  readonly elsewhere: Orphans
  /** What this engine cannot do, and why. */
  readonly cannot?: Partial<Record<Trait, string>>
  /** Instances that are started at once. @default 20 */
  readonly many?: number
}

/** An exit must be known within this time, in ms. The best of three tries counts, because the machine may be busy. */
const NOTICED_WITHIN = 1_000

/** How long the engine stays away, in ms. */
const AWAY = 10_000

const SLOW = { timeout: 120_000 }

export function conformance(harness: Harness): void {
  const { base = {}, cannot = {}, many = 20 } = harness
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-conformance-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  let provider: Provider
  let ids: string[] = []

  beforeEach(() => {
    provider = harness.provider()
    ids = []
  })
  afterEach(async () => {
    await provider.close?.()
    for (const id of ids) await waitUntil(async () => !(await harness.exists(id)))
  })

  function spec(part: Partial<StartSpec> = {}): ReturnType<typeof specOf> {
    const one = specOf({ ...base, ...part })
    ids.push(one.id)
    return one
  }

  async function accepting(running: Running): Promise<void> {
    await waitUntil(() => running.accepts?.(unending()).then(() => true) ?? true, 30_000)
  }

  async function serving(one: StartSpec, from = provider): Promise<Running> {
    const running = await from.start(one, { signal: unending() })
    await accepting(running)
    return running
  }

  function server(...args: string[]): Partial<StartSpec> {
    return { command: harness.server(...args) }
  }

  /** The server by a function. */
  function byFunction(before: Startup = () => {}, ...args: string[]): Partial<StartSpec> {
    return {
      startup: async (context, listenOn) => {
        await before(context, listenOn)
        const [command = '', ...rest] = harness.server(...args)
        await context.spawn(command, ...rest)
      },
    }
  }

  function open(): Session {
    return new Session({ provider, tickInterval: 100 })
  }

  function when(trait: Trait, name: string, body: () => Promise<void>): void {
    const why = cannot[trait]
    if (why === undefined) return test(name, SLOW, body)
    console.error(`!! NOT RUN on ${harness.name}: ${name}: ${why}`)
    test.skip(`${name} (not run: ${why})`, body)
  }

  describe(`${harness.name}: start`, () => {
    test(
      'by command: it serves where it was told to, and its output is passed on',
      SLOW,
      async () => {
        const one = spec(server())
        const running = await serving(one)
        const env = JSON.parse(await get(running.dispatcher, '/env'))
        expect(env).toMatchObject({ MANYHOST_INSTANCE: one.id })
        expect(env.PORT ?? env.SOCKET_PATH).toBeTruthy()
        expect(running.address).toMatch(/^(https?:\/\/|unix:)/)
        await waitUntil(() => one.output.includes('listens\n'))
        await running.stop(5_000)
        expect(await harness.exists(one.id)).toBe(false)
      },
    )

    when('function', 'by function: run, spawn, env and log', async () => {
      let seen = ''
      const one = spec(
        byFunction(async (context, listenOn) => {
          context.env.ADDED = 'by the function'
          seen = await context.run('sh', '-c', 'echo "$ADDED, $GIVEN"; echo aside >&2')
          context.log(`listens on ${listenOn.port ?? listenOn.socketPath}`)
        }),
      )
      const running = await serving({ ...one, env: { GIVEN: 'by the service' } })
      expect(seen).toBe('by the function, by the service\n')
      const env = JSON.parse(await get(running.dispatcher, '/env'))
      expect(env).toMatchObject({ ADDED: 'by the function', GIVEN: 'by the service' })
      await waitUntil(() => one.output.includes('listens\n'))
      expect(one.output).toContain('aside\n')
      expect(one.output).toMatch(/listens on (\d+|\/)/)
    })

    when('function', 'a run that fails is a failed start, with what it wrote', async () => {
      const one = spec({
        startup: async (context) => {
          await context.run('sh', '-c', 'echo begun; echo "disk is full" >&2; exit 7')
        },
      })
      const error = await rejectionOf(provider.start(one, { signal: unending() }))
      expect(error.code).toBe('MANYHOST_RUN_FAILED')
      expect(error.message).toContain('exit code 7')
      expect(error.output).toContain('disk is full')
      expect(await harness.exists(one.id)).toBe(false)
    })

    when('function', 'the end of what was spawned is the end of the instance', async () => {
      const running = await serving(spec(byFunction()))
      void get(running.dispatcher, '/exit?3').catch(() => {})
      expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 3' })
    })

    when('function', 'files and folders go there and back', async () => {
      const local = join(folder, 'tree')
      mkdirSync(join(local, 'inner'), { recursive: true })
      const big = randomBytes(5_000_000)
      writeFileSync(join(local, 'big.bin'), big)
      writeFileSync(join(local, 'empty'), '')
      writeFileSync(join(local, 'inner', 'run.sh'), '#!/bin/sh\necho ran\n', { mode: 0o755 })
      writeFileSync(join(folder, 'one file ä.txt'), 'one')
      const remote = `${harness.scratch}/${randomBytes(4).toString('hex')}`
      let ran = ''
      const one = spec(
        byFunction(async (context) => {
          await context.upload(local, `${remote}/tree`)
          await context.upload(join(folder, 'one file ä.txt'), `${remote}/tree/`)
          ran = await context.run(`${remote}/tree/inner/run.sh`)
          await context.run('sh', '-c', `echo made there > ${remote}/tree/inner/made`)
          await context.download(`${remote}/tree`, join(folder, 'back'))
          await context.download(`${remote}/tree/inner/made`, join(folder, 'made'))
        }),
      )
      await provider.start(one, { signal: unending() })
      expect(ran).toBe('ran\n')
      expect(readFileSync(join(folder, 'made'), 'utf8')).toBe('made there\n')
      expect(readFileSync(join(folder, 'back', 'one file ä.txt'), 'utf8')).toBe('one')
      expect(hash(readFileSync(join(folder, 'back', 'big.bin')))).toBe(hash(big))
      expect(statSync(join(folder, 'back', 'empty')).size).toBe(0)
      expect(statSync(join(folder, 'back', 'inner', 'run.sh')).mode & 0o111).not.toBe(0)
    })

    when('function', 'a file that is not there', async () => {
      const up = spec({ startup: (context) => context.upload(join(folder, 'none'), '/tmp/x') })
      const error = await rejectionOf(provider.start(up, { signal: unending() }))
      expect(error.code).toBe('MANYHOST_START_FAILED')
      expect(error.message).toMatch(/cannot upload '.*none'/)
      const down = spec({ startup: (context) => context.download('/no/such', join(folder, 'x')) })
      expect((await rejectionOf(provider.start(down, { signal: unending() }))).message).toMatch(
        /cannot download/,
      )
    })

    test('its environment comes whole, whatever is in it', SLOW, async () => {
      const env = {
        PLAIN: 'x',
        QUOTES: `a "b" 'c' $HOME \`d\``,
        LINES: 'one\ntwo',
        SIGN: 'a=b ä €',
      }
      const running = await serving(spec({ ...server(), env }))
      expect(JSON.parse(await get(running.dispatcher, '/env'))).toMatchObject(env)
    })

    test('in its folder', SLOW, async () => {
      const running = await serving(spec({ ...server(), cwd: '/usr' }))
      expect(await get(running.dispatcher, '/cwd')).toBe('/usr')
    })

    when('labels', 'its labels are known to the engine', async () => {
      const one = spec({ ...server(), labels: { team: 'blue', purpose: 'a test' } })
      await serving(one)
      expect(await harness.labels?.(one.id)).toMatchObject({ team: 'blue', purpose: 'a test' })
    })

    when('resources', 'its limits are known to the engine', async () => {
      const resources = { cpus: 1, memory: 268_435_456 }
      const one = spec({ ...server(), resources })
      await serving(one)
      expect(await harness.resources?.(one.id)).toEqual(resources)
    })

    test('one that ends at once: its exit code, and all that it wrote', SLOW, async () => {
      const one = spec(server('--fail=3'))
      // It may end before its start is over: then the start fails.
      const exit = await provider.start(one, { signal: unending() }).then(
        (running) => running.exited,
        (error: Error): Exit => ({ reason: 'exited', detail: error.message }),
      )
      expect(exit.reason).toBe('exited')
      expect(exit.detail).toContain('exit code 3')
      expect(one.output).toContain('looks for its data\n')
      expect(one.output).toContain('no data at all\n')
    })

    test('a command that is not there', SLOW, async () => {
      const one = spec({ command: ['/no-such-command', 'x'] })
      const exit = await provider.start(one, { signal: unending() }).then(
        (running) => running.exited.then(({ detail }) => `${detail} ${one.output}`),
        (error: Error) => error.message,
      )
      expect(exit).toMatch(/no-such-command|exit code 127/)
    })

    test('one that is given up leaves nothing', SLOW, async () => {
      for (const ms of [0, 5, 50, 200]) {
        const giveUp = new AbortController()
        const one = spec(server('--late=20000'))
        const starting = provider.start(one, { signal: giveUp.signal })
        void sleep(ms).then(() => giveUp.abort(new Error('enough')))
        await starting.then(
          (running) => running.stop(0),
          () => {},
        )
        await waitUntil(async () => !(await harness.exists(one.id)), 30_000)
      }
    })

    test(`${many} at once: each serves, each where no other does`, SLOW, async () => {
      const specs = Array.from({ length: many }, () => spec(server()))
      const all = await Promise.all(specs.map((one) => serving(one)))
      expect(new Set(all.map(({ address }) => address)).size).toBe(many)
      const names = await Promise.all(
        all.map(async ({ dispatcher }) => JSON.parse(await get(dispatcher, '/env'))),
      )
      expect(names.map((env) => env.MANYHOST_INSTANCE)).toEqual(specs.map(({ id }) => id))
      await Promise.all(all.map((running) => running.stop(0)))
    })
  })

  describe(`${harness.name}: end`, () => {
    test('killed from outside: known within a second, and called so', SLOW, async () => {
      let best: Exit | undefined
      for (let tries = 0; tries < 3 && !best; tries++) {
        const one = spec(server())
        const running = await serving(one)
        await harness.kill(one.id)
        best = await resolveWithin(NOTICED_WITHIN, running.exited)
        await running.exited
      }
      expect(best).toMatchObject({ reason: 'killed' })
    })

    when('out of memory', 'out of memory is called so', async () => {
      const one = spec({ ...server(), resources: { memory: 134_217_728 } })
      const running = await serving(one)
      void get(running.dispatcher, '/eat').catch(() => {})
      const exit = await resolveWithin(60_000, running.exited)
      expect(exit).toMatchObject({ reason: 'out-of-memory' })
      expect(exit?.detail).toMatch(/memory/)
    })

    when('stop by signal', 'asked to stop, it may end by itself', async () => {
      const one = spec(server())
      const running = await serving(one)
      await running.stop(20_000)
      expect(one.output).toContain('asked to stop\n')
      expect(await running.exited).toMatchObject({ reason: 'stopped' })
      expect(await harness.exists(one.id)).toBe(false)
    })

    when('stop by signal', 'what a function has spawned is asked as well', async () => {
      if (cannot.function !== undefined) return
      const one = spec(byFunction())
      const running = await serving(one)
      await running.stop(20_000)
      expect(one.output).toContain('asked to stop\n')
      expect(await harness.exists(one.id)).toBe(false)
    })

    test(
      'one that does not listen is stopped by force, and a second stop may shorten the grace',
      SLOW,
      async () => {
        const deaf = spec(server('--deaf'))
        await (await serving(deaf)).stop(300)
        expect(await harness.exists(deaf.id)).toBe(false)
        const patient = await serving(spec(server('--deaf')))
        const long = patient.stop(3_600_000)
        await patient.stop(0)
        await long
        expect(await patient.exited).toMatchObject({ reason: 'stopped' })
      },
    )

    when(
      'freeze',
      'frozen it has not ended; thawed it goes on; frozen it can be stopped',
      async () => {
        const one = spec(server())
        const running = await serving(one)
        await harness.freeze?.(one.id)
        const answer = get(running.dispatcher, '/pid')
        expect(await resolveWithin(500, Promise.race([answer, running.exited]))).toBeUndefined()
        await harness.thaw?.(one.id)
        expect(Number(await answer)).toBeGreaterThan(0)
        await harness.freeze?.(one.id)
        await running.stop(200)
        expect(await harness.exists(one.id)).toBe(false)
      },
    )

    test('nothing is left after close, of what runs, starts or ends', SLOW, async () => {
      const running = await serving(spec(server('--deaf')))
      const ending = (await serving(spec(server('--deaf')))).stop(3_600_000)
      const starting = provider
        .start(spec(server('--late=5000')), { signal: unending() })
        .catch(() => undefined)
      await provider.close?.()
      await Promise.all([running.exited, ending, starting])
      for (const id of ids) await waitUntil(async () => !(await harness.exists(id)))
    })

    when(
      'sweep',
      'a session that was killed leaves nothing, or what the next one sweeps',
      async () => {
        const left = await orphans(harness, `orphan-${randomBytes(4).toString('hex')}`)
        ids.push(...left)
        // Its own start is what sweeps.
        await serving(spec(server()))
        for (const id of left) await waitUntil(async () => !(await harness.exists(id)), 30_000)
      },
    )
  })

  describe(`${harness.name}: with a session`, () => {
    const url = 'http://calc'

    test('a start that fails says what the server wrote', SLOW, async () => {
      const session = open()
      const failed = nextEvent(session, 'error')
      session.startup({ url, ...base, command: harness.server('--fail=3') })
      expect(String(await failed)).toMatch(/exit code 3[\s\S]*no data at all/)
      await session.close({ force: true })
    })

    test('instances are killed and no request is lost', SLOW, async () => {
      const session = open()
      session.startup({ url, ...base, command: harness.server(), initSize: 3, concurrency: 4 })
      await waitForReady(session, url, 3)
      const client = session.client()
      let answered = 0
      const requests = Array.from({ length: 60 }, async () => {
        const response = await client.get(`${url}/slow?50`)
        expect(await response.text()).toBe('slow')
        answered++
      })
      const [first] = session.cluster(url).instances
      await harness.kill(first?.id ?? '')
      await Promise.all(requests)
      expect(answered).toBe(60)
      await waitForReady(session, url, 3)
      const { instances } = session.cluster(url)
      await session.close()
      for (const { id } of instances) expect(await harness.exists(id)).toBe(false)
    })

    test('two sessions of the same services do not see each other', SLOW, async () => {
      const sessions = [open(), new Session({ provider: harness.provider() })]
      for (const session of sessions) {
        session.startup({ url, ...base, command: harness.server(), initSize: 2 })
      }
      await Promise.all(sessions.map((session) => waitForReady(session, url, 2)))
      const names = sessions.map((session) => session.cluster(url).instances.map(({ id }) => id))
      expect(new Set(names.flat()).size).toBe(4)
      await sessions[0]?.close()
      for (const id of names[1] ?? []) expect(await harness.exists(id)).toBe(true)
      expect(await (await sessions[1]?.client().get(`${url}/cwd`))?.text()).toMatch(/^\//)
      await sessions[1]?.close()
      for (const id of names.flat()) expect(await harness.exists(id)).toBe(false)
    })

    when(
      'unreachable',
      'the engine is away for 10 s: nothing is lost, nothing is doubled',
      async () => {
        const session = open()
        const seen = new Set<string>()
        session.on('instance', ({ instance }) => seen.add(instance))
        session.startup({ url, ...base, command: harness.server(), initSize: 3, concurrency: 8 })
        await waitForReady(session, url, 3)
        const before = session.cluster(url).instances.map(({ id }) => id)
        const back = await harness.unreachable?.()
        const over = new AbortController()
        void sleep(AWAY).then(() => over.abort())
        const client = session.client()
        // What is asked for while the engine is away: requests, and one instance more.
        session.setSize(url, 4)
        let answered = 0
        while (!over.signal.aborted) {
          expect((await client.get(`${url}/slow?20`)).status).toBe(200)
          answered++
        }
        expect(answered).toBeGreaterThan(10)
        expect(before.every((id) => seen.has(id))).toBe(true)
        for (const { id, state } of session.cluster(url).instances) {
          if (before.includes(id)) expect(state).toBe('ready')
        }
        await back?.()
        await waitForReady(session, url, 4)
        // The end of one that was there before is known as if nothing had been.
        await harness.kill(before[0] ?? '')
        await waitUntil(
          () => !session.cluster(url).instances.some(({ id }) => id === before[0]),
          20_000,
        )
        await waitForReady(session, url, 4)
        const mine = new Set(session.cluster(url).instances.map(({ id }) => id))
        for (const id of seen) {
          if (!mine.has(id)) await waitUntil(async () => !(await harness.exists(id)), 20_000)
        }
        for (const id of mine) expect(await harness.exists(id)).toBe(true)
        await session.close()
        for (const id of seen) await waitUntil(async () => !(await harness.exists(id)), 20_000)
      },
    )

    when(
      'unreachable',
      'an instance that ends while the engine is away is missed when it is back',
      async () => {
        const one = spec(server())
        const running = await serving(one)
        const back = await harness.unreachable?.()
        void get(running.dispatcher, '/exit?5').catch(() => {})
        await sleep(500)
        await back?.()
        expect(await resolveWithin(20_000, running.exited)).toMatchObject({ reason: 'exited' })
      },
    )
  })
}

function unending(): AbortSignal {
  return new AbortController().signal
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
