/** The ssh provider against a real sshd. */
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type SshOptions, ssh } from '../../providers/ssh/index.ts'
import { findInstancePids, rejectionOf } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { get, specOf, waitUntil } from '../providers/process-help.ts'
import { withEngine } from './engine.ts'
import { openSshd, type Sshd } from './sshd.ts'

const SSHD = '/usr/sbin/sshd'
const { signal } = new AbortController()
const server = ['node', resolve('test/fakes/conformance-server.mjs')]

withEngine(SSHD, 'sshd', () => {
  let sshd: Sshd
  const scratch = mkdtempSync(join(tmpdir(), 'manyhost-ssh-'))
  // Filled in when the server is there.
  const options = { ports: [16_000, 17_999], agent: false } as unknown as {
    -readonly [Name in keyof SshOptions]: SshOptions[Name]
  }

  beforeAll(async () => {
    sshd = await openSshd()
    options.hosts = [`127.0.0.1:${sshd.port}`]
    options.key = sshd.key
    options.knownHosts = [sshd.knownHosts]
    options.env = { PATH: process.env.PATH ?? '' }
  })
  afterAll(async () => {
    await sshd?.close()
    rmSync(scratch, { recursive: true, force: true })
  })

  async function send(id: string, name: NodeJS.Signals): Promise<void> {
    for (const pid of findInstancePids(id)) process.kill(pid, name)
  }

  conformance({
    name: 'ssh',
    provider: () => ssh(options),
    server: (...args) => [...server, ...args],
    scratch,
    exists: async (id) => findInstancePids(id).length > 0,
    kill: (id) => send(id, 'SIGKILL'),
    freeze: (id) => send(id, 'SIGSTOP'),
    thaw: (id) => send(id, 'SIGCONT'),
    unreachable: async () => {
      sshd.child.kill('SIGSTOP')
      return async () => void sshd.child.kill('SIGCONT')
    },
    elsewhere: {
      module: 'providers/ssh/index.js',
      make: 'ssh',
      options: options as unknown as Record<string, unknown>,
    },
    cannot: {
      labels: 'a process has no labels',
      resources: 'nobody holds a process there to limits',
      'out of memory': 'there is no limit of its own to exceed',
    },
  })

  describe('a host key', () => {
    const start = (part: Partial<SshOptions>): Promise<Error> =>
      rejectionOf(ssh({ ...options, ...part }).start(specOf({ command: server }), { signal }))

    test('that is in no file is refused', async () => {
      const error = await start({ knownHosts: [join(scratch, 'none')] })
      expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
      expect(error.message).toMatch(/its key SHA256:\S{43} is in none of .*none; add it/)
    })

    test('that is another than the known one is refused', async () => {
      const other = join(scratch, 'other')
      const key = 'AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
      writeFileSync(other, `[127.0.0.1]:${sshd.port} ssh-ed25519 ${key}\n`)
      expect((await start({ knownHosts: [other] })).message).toMatch(
        /is not one of the known keys of this host/,
      )
    })

    test('may be pinned by its fingerprint', async () => {
      const wrong = `SHA256:${'A'.repeat(43)}`
      const hosts = [{ host: '127.0.0.1', port: sshd.port, fingerprint: wrong }]
      const error = await start({ hosts, knownHosts: [] })
      const seen =
        /its key is (SHA256:\S{43}), but option fingerprint/.exec(error.message)?.[1] ?? ''
      const provider = ssh({
        ...options,
        knownHosts: [],
        hosts: [{ host: '127.0.0.1', port: sshd.port, fingerprint: seen }],
      })
      await provider.start(specOf({ command: server }), { signal })
      await provider.close?.()
    })
  })

  test('a unix socket there, by way of ssh', async () => {
    const provider = ssh(options)
    const running = await provider.start(specOf({ command: server, listen: 'unix' }), { signal })
    await waitUntil(() => running.accepts?.(signal).then(() => true) ?? false)
    const { SOCKET_PATH = '' } = JSON.parse(await get(running.dispatcher, '/env'))
    expect(existsSync(SOCKET_PATH)).toBe(true)
    await running.stop(1_000)
    expect(existsSync(SOCKET_PATH)).toBe(false)
    await provider.close?.()
  })

  test('ports that others have taken: the one that is left is found, and none is said', async () => {
    // Below those that the kernel hands out by itself.
    const from = 18_000 + 20 * (process.pid % 50)
    const provider = ssh({ ...options, ports: [from, from + 19] })
    const taken: Server[] = []
    for (let port = from; port < from + 20; port++) {
      const one = createServer().listen(port, '127.0.0.1')
      // Whoever has it already has taken it as well.
      const isMine = await new Promise((resolve) => {
        one.once('listening', () => resolve(true)).once('error', () => resolve(false))
      })
      if (isMine) taken.push(one)
    }
    const error = await rejectionOf(provider.start(specOf({ command: server }), { signal }))
    expect(error.message).toMatch(
      /no free port on .*: 128 ports of \d+\.\.\d+ were tried; option `ports`/,
    )
    const chosen = taken.pop() as Server
    const { port } = chosen.address() as AddressInfo
    chosen.close()
    await once(chosen, 'close')
    const running = await provider.start(specOf({ command: server }), { signal })
    await waitUntil(() => running.accepts?.(signal).then(() => true) ?? false)
    expect(JSON.parse(await get(running.dispatcher, '/env')).PORT).toBe(String(port))
    await provider.close?.()
    for (const one of taken) one.close()
  })

  test('a host that cannot be reached is passed over, and comes last for a while', async () => {
    const good = `127.0.0.1:${sshd.port}`
    const provider = ssh({ ...options, hosts: ['127.0.0.1:1', good] })
    for (let i = 0; i < 3; i++) {
      const running = await provider.start(specOf({ command: server }), { signal })
      expect(running.address).toContain(`:${sshd.port}`)
    }
    await provider.close?.()
  })

  test('instances go to the host that is used least of its capacity', async () => {
    const other = await openSshd()
    const provider = ssh({
      ...options,
      knownHosts: [sshd.knownHosts, other.knownHosts],
      hosts: [
        { host: '127.0.0.1', port: sshd.port, cpus: 3 },
        { host: '127.0.0.1', port: other.port, cpus: 1, limit: 1 },
      ],
    })
    // Each sshd has a user key of its own.
    writeFileSync(`${other.folder}/user.pub`, '')
    writeFileSync(`${other.folder}/user.pub`, await publicKey(sshd))
    const all = await Promise.all(
      Array.from({ length: 4 }, () => provider.start(specOf({ command: server }), { signal })),
    )
    const at = (port: number) =>
      all.filter(({ address = '' }) => address.endsWith(`:${port}`)).length
    expect([at(sshd.port), at(other.port)]).toEqual([3, 1])
    await provider.close?.()
    await other.close()
  })

  test('a connection that is cut ends the instance, here and there', async () => {
    const provider = ssh(options)
    const spec = specOf({ command: server })
    const running = await provider.start(spec, { signal })
    await waitUntil(() => findInstancePids(spec.id).length > 0)
    const { stdout } = await import('node:child_process').then(({ spawnSync }) =>
      spawnSync('ps', ['-o', 'pid=', '--ppid', String(sshd.child.pid)], { encoding: 'utf8' }),
    )
    for (const pid of stdout.trim().split(/\s+/)) process.kill(Number(pid), 'SIGKILL')
    expect(await running.exited).toMatchObject({ reason: 'lost' })
    await waitUntil(() => findInstancePids(spec.id).length === 0)
    await provider.close?.()
  })
})

async function publicKey({ key }: Sshd): Promise<string> {
  const { readFileSync } = await import('node:fs')
  return readFileSync(`${key}.pub`, 'utf8')
}
