/** The slurm provider against a real cluster of three nodes, by its commands. */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { slurm } from '../../providers/slurm/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { Session } from '../../src/index.ts'
import { findInstancePids, recordEvents, rejectionOf, waitForReady } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { get, specOf, waitUntil } from '../providers/process-help.ts'
import { withEngine } from './engine.ts'
import { LIMITS, openSlurm, type SlurmCluster } from './slurm.ts'

const SBATCH = '/usr/bin/sbatch'

withEngine(SBATCH, 'Slurm', () => {
  let cluster: SlurmCluster
  const scratch = mkdtempSync(join(tmpdir(), 'manyhost-slurm-'))
  const options: Record<string, unknown> = { ports: [14_000, 15_999] }

  beforeAll(async () => {
    cluster = await openSlurm()
    options.conf = cluster.conf
  })
  afterAll(async () => {
    await cluster?.close()
    rmSync(scratch, { recursive: true, force: true })
  })

  async function jobOf(id: string, format: string): Promise<string> {
    const states = 'pending,running,suspended,configuring,completing'
    const all = await cluster.run(
      'squeue',
      '--noheader',
      `--states=${states}`,
      `--name=${id}`,
      '-o',
      format,
    )
    return all.trim()
  }

  async function signal(id: string, name: NodeJS.Signals): Promise<void> {
    for (const pid of findInstancePids(id)) process.kill(pid, name)
  }

  conformance({
    name: 'slurm',
    provider: () => slurm(options),
    server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
    scratch,
    exists: async (id) => findInstancePids(id).length > 0 || (await jobOf(id, '%T')) !== '',
    kill: (id) => signal(id, 'SIGKILL'),
    freeze: (id) => signal(id, 'SIGSTOP'),
    thaw: (id) => signal(id, 'SIGCONT'),
    labels: async (id) => JSON.parse(await jobOf(id, '%k')).labels,
    resources: async (id) => {
      const [cpus, memory] = (await jobOf(id, '%C %m')).split(' ')
      return { cpus: Number(cpus), memory: Number.parseInt(memory ?? '', 10) * 1_048_576 }
    },
    unreachable: async () => {
      cluster.controller().kill('SIGSTOP')
      return async () => void cluster.controller().kill('SIGCONT')
    },
    elsewhere: { module: 'providers/slurm/index.js', make: 'slurm', options },
    cannot: LIMITS ? {} : { 'out of memory': 'slurmd can make no cgroups here' },
  })

  const command = ['node', resolve('test/fakes/conformance-server.mjs')]
  const { signal: unending } = new AbortController()

  async function serving(provider: Provider): Promise<{ id: string; running: Running }> {
    const spec = specOf({ command })
    const running = await provider.start(spec, { signal: unending })
    await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false)
    return { id: spec.id, running }
  }

  test('examples/calculator.js runs unchanged', async () => {
    const args = ['--provider', 'slurm', '--options', JSON.stringify(options)]
    const run = promisify(execFile)(process.execPath, ['examples/calculator.js', ...args])
    const { stdout } = await run
    expect(stdout).toMatch(/kill -9 calc-/)
    expect(stdout).toMatch(/results: 0 2 4 .* 98/)
    expect(stdout).toMatch(/code="200",outcome="answered"\} 250/)
    expect(await cluster.run('squeue', '--noheader', '--states=running,pending')).toBe('')
  })

  describe('slurm: its own faults', () => {
    let provider: Provider
    beforeEach(() => {
      provider = slurm(options)
    })
    afterEach(() => provider.close?.())

    test('a job that is put back into the queue is another one: neither of its servers is used', async () => {
      const { id, running } = await serving(provider)
      const job = await jobOf(id, '%A')
      await cluster.run('scontrol', 'update', `JobId=${job}`, 'Requeue=1')
      await cluster.run('scontrol', 'requeue', job)
      expect((await running.exited).reason).toMatch(/^(killed|lost)$/)
      await waitUntil(
        async () => findInstancePids(id).length === 0 && (await jobOf(id, '%T')) === '',
        30_000,
      )
    })

    test('a node that fails: the server that still answers there is used no more, and ended', async () => {
      const { id, running } = await serving(provider)
      const node = await jobOf(id, '%N')
      cluster.node(node).kill('SIGKILL')
      expect(await get(running.dispatcher, '/cwd')).toBe(process.cwd())
      await cluster.run('scontrol', 'update', `NodeName=${node}`, 'State=DOWN', 'Reason=test')
      expect(await running.exited).toMatchObject({ reason: 'lost' })
      await waitUntil(() => findInstancePids(id).length === 0)
      cluster.startNode(node)
      await cluster.run('scontrol', 'update', `NodeName=${node}`, 'State=RESUME').catch(() => {})
      await waitUntil(
        async () => (await cluster.run('sinfo', '-hN', '-n', node, '-o', '%T')).includes('idle'),
        60_000,
      )
    })

    test('its time limit is near: it is drained, and another one is there before', async () => {
      const session = new Session({
        provider: slurm({ ...options, timeLimit: 1, drainBefore: 50 }),
      })
      const events = recordEvents(session, 'instance')
      session.startup({ url: 'http://calc', command })
      await waitForReady(session, 'http://calc', 1)
      await waitUntil(() => events.some(({ state }) => state === 'draining'), 90_000)
      const first = events.find(({ state }) => state === 'ready')?.instance ?? ''
      expect(events.find(({ state }) => state === 'draining')).toMatchObject({
        instance: first,
        reason: expect.stringMatching(/time limit/),
      })
      await waitUntil(() =>
        events.some(({ state, instance }) => state === 'ready' && instance !== first),
      )
      await waitUntil(() =>
        events.some(({ state, instance }) => state === 'stopped' && instance === first),
      )
      expect(session.cluster('http://calc').instances.map(({ id }) => id)).not.toContain(first)
      await session.close()
    })

    test('a job that waits for room is cancelled when its start is given up', async () => {
      const giveUp = new AbortController()
      const one = slurm({ ...options, partition: 'small', cpus: 16 })
      await serving(one)
      const waits = specOf({ command })
      const starting = rejectionOf(one.start(waits, { signal: giveUp.signal }))
      await waitUntil(async () => (await jobOf(waits.id, '%T %r')) === 'PENDING Resources')
      giveUp.abort(new Error('enough'))
      expect((await starting).message).toContain('the start was given up')
      await waitUntil(async () => (await jobOf(waits.id, '%T')) === '')
      await one.close?.()
    })

    test('what Slurm refuses is told in its words', async () => {
      const error = await rejectionOf(serving(slurm({ ...options, partition: 'none' })))
      expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
      expect(error.message).toMatch(/sbatch: .*invalid partition/i)
    })

    test('jobs that cannot call back: the start says what to look at', async () => {
      const callback = { host: '127.0.0.9', listen: '127.0.0.1' }
      const error = await rejectionOf(serving(slurm({ ...options, callback })))
      expect(error.message).toMatch(/ended as FAILED .* can its node reach 127\.0\.0\.9/)
    })

    test('a stranger that calls back is sent away', async () => {
      const callback = { host: '127.0.0.1', port: 13_000 + (process.pid % 900) }
      const own = slurm({ ...options, callback })
      const { id, running } = await serving(own)
      for (const line of [
        '',
        'job x.y 1 0 n1 80',
        `job ${id}.wrong 1 0 n1 80`,
        'x'.repeat(20_000),
      ]) {
        const socket = connect(callback.port, '127.0.0.1')
        socket.on('error', () => {})
        socket.write(`${line}\n`)
        await new Promise((gone) => socket.once('close', gone).resume())
      }
      expect(await get(running.dispatcher, '/cwd')).toBe(process.cwd())
      await own.close?.()
    })

    test('by slurmrestd', async () => {
      const rest = await cluster.startRest()
      const own = slurm({ ...options, rest })
      const spec = specOf({
        command,
        labels: { team: 'blue' },
        resources: { cpus: 2, memory: 268_435_456 },
      })
      const running = await own.start(spec, { signal: unending })
      await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false)
      expect(JSON.parse(await jobOf(spec.id, '%k')).labels).toEqual({ team: 'blue' })
      expect(await jobOf(spec.id, '%C %m')).toBe('2 256M')
      for (const pid of findInstancePids(spec.id)) process.kill(pid, 'SIGKILL')
      expect(await running.exited).toMatchObject({ reason: 'killed' })
      await waitUntil(async () => (await jobOf(spec.id, '%T')) === '')
      await own.close?.()
    })

    test('by slurmrestd over TCP: with a token, which is read anew, and not without', async () => {
      const rest = await cluster.startRestWithTokens()
      const tokenFile = join(scratch, 'token')
      const own = slurm({ ...options, rest, tokenFile })
      const refused = async (): Promise<Error> =>
        rejectionOf(own.start(specOf({ command }), { signal: unending }))
      writeFileSync(tokenFile, 'SLURM_JWT=eyJhbGciOiJIUzI1NiJ9.e30.AAAA\n')
      expect((await refused()).message).toMatch(/slurmrestd: POST job\/submit: (401|5\d\d)/)
      writeFileSync(tokenFile, await cluster.run('scontrol', 'token', 'lifespan=600'))
      const { id, running } = await serving(own)
      expect(await jobOf(id, '%T')).toBe('RUNNING')
      await running.stop(5_000)
      expect(await jobOf(id, '%T')).toBe('')
      await own.close?.()
    })
  })
})

if (!existsSync(SBATCH)) console.error('!! NOT RUN: the slurm provider; Slurm is not installed')
