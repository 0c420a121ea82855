import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { processes } from '../../../providers/process/index.ts'
import { lockByDatagram, reservePort } from '../../../providers/shared/ports.ts'
import { Guard } from '../../../src/posix/guard.ts'
import { readProcess } from '../../../src/posix/proc.ts'
import { portBase } from '../../ports.ts'
import { buildProviders, isAlive, markerOf, pidsWith, specOf, waitUntil } from '../process-help.ts'

const signal = new AbortController().signal

let built = ''
const children: ChildProcessWithoutNullStreams[] = []

beforeAll(async () => {
  built = await buildProviders()
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})
afterAll(() => rmSync(built, { recursive: true, force: true }))

function runFake(name: string, ...args: string[]): ChildProcessWithoutNullStreams {
  const child = spawn(process.execPath, [`test/fakes/${name}`, join(built, 'providers'), ...args])
  child.stderr.pipe(process.stderr)
  children.push(child)
  return child
}

/** The first line that it prints, as JSON. */
async function answer<T>(child: ChildProcessWithoutNullStreams): Promise<T> {
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  return waitUntil(() => text.endsWith('\n') && (JSON.parse(text) as T), 20_000)
}

/** Pids of the guard of the session that has this child. */
async function guardOf(pid: number): Promise<number[]> {
  // In the middle of an exec the kernel shows an empty environment.
  const marker = await waitUntil(() => markerOf(pid))
  return pidsWith(marker, 'cmdline')
}

/** Those that are past their shell, and so past setsid. */
function sleepers(mark: string): number[] {
  const asleep = new Set(pidsWith('sleep\u00001000', 'cmdline'))
  return pidsWith(mark).filter((pid) => asleep.has(pid))
}

describe('the guard', () => {
  test.each(['SIGKILL', 'SIGTERM'] as const)(
    'no child outlives a session that was ended by %s',
    async (name) => {
      const session = runFake('guarded-session.mjs')
      const pids = await answer<number[]>(session)
      expect(pids).toHaveLength(5)
      expect(pids.every(isAlive)).toBe(true)
      const guard = await guardOf(pids[0] as number)
      expect(guard).toHaveLength(1)

      session.kill(name)

      await waitUntil(() => !pids.some(isAlive))
      await waitUntil(() => !guard.some(isAlive))
    },
  )

  test('removes the folder of the sockets after a kill', async () => {
    const session = runFake('guarded-session.mjs')
    const [pid] = await answer<number[]>(session)
    const marker = await waitUntil(() => markerOf(pid as number))
    const folder = join(tmpdir(), `manyhost-${marker}`)
    expect(existsSync(folder)).toBe(true)
    session.kill('SIGKILL')
    await waitUntil(() => !existsSync(folder))
  })

  test('a killed guard is replaced, and the new guard ends the instances of a killed session', async () => {
    const session = runFake('guarded-session.mjs')
    const pids = await answer<number[]>(session)
    const marker = await waitUntil(() => markerOf(pids[0] as number))
    const [guard] = pidsWith(marker, 'cmdline')
    process.kill(guard as number, 'SIGKILL')
    await waitUntil(() => pidsWith(marker, 'cmdline').some((pid) => pid !== guard))
    session.kill('SIGKILL')
    await waitUntil(() => !pids.some(isAlive))
  })

  test('close ends it, and a later start makes a new one', async () => {
    const provider = processes()
    for (const round of [1, 2]) {
      const spec = specOf({ command: ['sleep', '1000'] })
      const running = await provider.start(spec, { signal })
      const [pid] = await waitUntil(() => {
        const found = sleepers(`MANYHOST_INSTANCE=${spec.id}\0`)
        return found.length === 1 && found
      })
      const guard = await guardOf(pid as number)
      expect(guard, `round ${round}`).toHaveLength(1)
      await running.stop(1_000)
      await provider.close?.()
      expect(guard.some(isAlive)).toBe(false)
    }
  })

  test('close ends running instances, and processes that have left their group', async () => {
    const provider = processes()
    const spec = specOf({ command: ['sh', '-c', 'setsid sleep 1000 & exec sleep 1000'] })
    const running = await provider.start(spec, { signal })
    const mark = `MANYHOST_INSTANCE=${spec.id}\0`
    await waitUntil(() => sleepers(mark).length === 2)
    await provider.close?.()
    expect(pidsWith(mark)).toEqual([])
    expect((await running.exited).reason).toBe('stopped')
  })

  test('a process that has left its group ends soon after its instance; other instances run on', async () => {
    const provider = processes()
    const spec = specOf({ command: ['sh', '-c', 'setsid sleep 1000 & exec sleep 1000'] })
    const running = await provider.start(spec, { signal })
    // Its id starts with the other's: they must be told apart.
    const other = { ...specOf({ command: ['sleep', '1000'] }), id: `${spec.id}0` }
    await provider.start(other, { signal })
    const mark = `MANYHOST_INSTANCE=${spec.id}\0`
    await waitUntil(() => sleepers(mark).length === 2)
    await running.stop(1_000)
    await waitUntil(() => pidsWith(mark).length === 0)
    expect(pidsWith(`MANYHOST_INSTANCE=${other.id}\0`)).toHaveLength(1)
    await provider.close?.()
  })

  test('forgets a group that it is told to forget', async () => {
    const sleepers = [1, 2, 3].map(() => spawn('sleep', ['1000'], { detached: true }))
    const [a, b, c] = sleepers.map((child) => child.pid as number) as [number, number, number]
    const guard = new Guard({
      mark: 'NO_MARK=of-anybody',
      folder: join(tmpdir(), 'manyhost-no-such-folder'),
    })
    guard.ensure()
    for (const pid of [a, b, c]) guard.watchGroup(pid)
    guard.forgetGroup(b)
    await guard.close()
    await waitUntil(() => !isAlive(a) && !isAlive(c))
    expect(isAlive(b)).toBe(true)
    process.kill(b, 'SIGKILL')
  })

  test('a new guard watches all that the one before watched, except what was forgotten', async () => {
    const sleepers = [1, 2, 3].map(() => spawn('sleep', ['1000'], { detached: true, env: {} }))
    const [a, b, c] = sleepers.map((child) => child.pid as number) as [number, number, number]
    const guard = new Guard({
      mark: 'NO_MARK=of-anybody',
      folder: join(tmpdir(), 'manyhost-no-such-folder'),
    })
    guard.ensure()
    for (const pid of [a, b]) guard.watchGroup(pid)
    guard.watchProcess(c, readProcess(c)?.startTime as string)
    guard.forgetGroup(b)
    for (let i = 0; i < 12; i++) {
      const pid = guard.pid as number
      process.kill(pid, 'SIGKILL')
      await waitUntil(() => guard.pid !== undefined && guard.pid !== pid)
    }
    await guard.close()
    await waitUntil(() => !isAlive(a) && !isAlive(c))
    expect(isAlive(b)).toBe(true)
    process.kill(b, 'SIGKILL')
  })

  test('does not keep the process of the session alive', async () => {
    const script = `
      const { processes } = await import(process.argv[1])
      const provider = processes()
      const spec = { id: 'short', service: 'http://x', command: ['true'], env: {}, labels: {}, concurrency: 1, onOutput() {} }
      const running = await provider.start(spec, { signal: new AbortController().signal })
      console.log((await running.exited).detail)`
    const path = join(built, 'providers/process/index.js')
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path])
    children.push(child)
    const [code] = await once(child, 'exit')
    expect(code).toBe(0)
  })
})

describe('ports', () => {
  const port = portBase + 150
  const range = [portBase, portBase + 149] as const

  test('two processes never reserve the same port', async () => {
    const grabbers = [1, 2].map(() => runFake('port-grabber.mjs', ...range.map(String)))
    await Promise.all(grabbers.map((child) => once(child.stdout, 'data')))
    const answers = grabbers.map((child) => answer<{ ports: number[]; failure: string }>(child))
    for (const child of grabbers) child.stdin.write('go\n')
    const held = await Promise.all(answers)
    const all = held.flatMap(({ ports }) => ports)
    expect(new Set(all).size).toBe(150)
    expect(all.length).toBe(150)
    for (const port of all) expect(port >= range[0] && port <= range[1]).toBe(true)
    for (const { failure } of held) {
      expect(failure).toContain(`no free port on 127.0.0.1 in ${range[0]}..${range[1]}`)
      expect(failure).toContain('manyhost instances have 150 of 150 ports')
    }

    // The kernel gives back what a killed process held.
    const bigger = Number((held[1]?.ports.length ?? 0) > (held[0]?.ports.length ?? 0))
    grabbers[bigger]?.kill('SIGKILL')
    const again = await waitUntil(() => reservePort('127.0.0.1', range))
    expect(held[bigger]?.ports).toContain(again.listenOn.port)
    again.release()
  })

  test('a port that another program listens on is not reserved', async () => {
    const other = createServer().listen(port, '127.0.0.1')
    await once(other, 'listening')
    await expect(reservePort('127.0.0.1', [port, port])).rejects.toMatchObject({
      code: 'MANYHOST_START_FAILED',
      message: expect.stringContaining(
        'manyhost instances have 0 of 1 ports, other programs have 1',
      ),
    })
    other.close()
    await once(other, 'close')
    const reserved = await reservePort('127.0.0.1', [port, port])
    expect(reserved.listenOn).toEqual({ host: '127.0.0.1', port })
    reserved.release()
  })

  test('an address of another machine fails at once', async () => {
    await expect(reservePort('192.0.2.1', [portBase, portBase + 9])).rejects.toMatchObject({
      code: 'MANYHOST_START_FAILED',
      message: expect.stringMatching(/port \d+ of 192\.0\.2\.1: .*EADDRNOTAVAIL/),
    })
  })

  test('the lock for systems without abstract sockets', async () => {
    const one = await reservePort('127.0.0.1', [port, port], lockByDatagram)
    await expect(reservePort('127.0.0.1', [port, port], lockByDatagram)).rejects.toThrow(
      'manyhost instances have 1 of 1 ports',
    )
    one.release()
    const two = await waitUntil(() => reservePort('127.0.0.1', [port, port], lockByDatagram))
    two.release()
  })

  test('sockets are in a folder that is gone after close', async () => {
    const provider = processes({ listen: 'unix' })
    const running = await provider.start(specOf({ command: ['sleep', '1000'] }), { signal })
    const folder = /^unix:(.*)\/[^/]+$/.exec(running.address ?? '')?.[1] as string
    expect(readdirSync(tmpdir()).map((name) => join(tmpdir(), name))).toContain(folder)
    await provider.close?.()
    expect(existsSync(folder)).toBe(false)
  })
})
