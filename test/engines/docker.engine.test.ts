/** Docker by the conformance suite, and what containers have that other places have not. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { docker } from '../../providers/docker/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { rejectionOf } from '../help.ts'
import { get, specOf, waitUntil } from '../providers/process-help.ts'
import { makeCertificates } from './certificates.ts'
import { containerConformance } from './container-conformance.ts'
import { type Daemon, IMAGE, relay, SERVER, startEngine } from './containers.ts'
import { withEngine } from './engine.ts'

const run = promisify(execFile)
const { signal } = new AbortController()
const server = { image: IMAGE, command: SERVER }

async function serving(provider: Provider): Promise<Running> {
  const running = await provider.start(specOf(server), { signal })
  await waitUntil(() => running.accepts?.(new AbortController().signal).then(() => true) ?? true)
  return running
}

withEngine('/usr/sbin/dockerd', 'docker', () => {
  const { daemon } = containerConformance('docker', docker)
  const here = (): string => `unix://${daemon().socket}`

  describe('docker: more', () => {
    test('examples/calculator.js runs unchanged', async () => {
      const options = JSON.stringify({ hosts: [here()], network: 'host' })
      const args = ['--provider', 'docker', '--image', IMAGE, '--options', options]
      const { stdout } = await run(process.execPath, ['examples/calculator.js', ...args])
      expect(stdout).toMatch(/kill -9 calc-/)
      expect(stdout).toMatch(/results: 0 2 4 .* 98/)
      expect(stdout).toMatch(/code="200",outcome="answered"\} 250/)
      expect(await daemon().api.listContainers({ all: true })).toEqual([])
    })

    test('several hosts share the load; one that is away gets nothing, and is used again', async () => {
      const second = await relay(daemon().socket)
      const provider = docker({ hosts: [here(), `unix://${second.socket}`], network: 'host' })
      const labels = async (): Promise<number> => (await daemon().api.listContainers()).length
      const all = [await serving(provider), await serving(provider)]
      await second.cut()
      for (let i = 0; i < 3; i++) all.push(await serving(provider))
      expect(await labels()).toBe(5)
      await second.restore()
      all.push(await serving(provider))
      expect(new Set(all.map(({ address }) => address)).size).toBe(6)
      await provider.close?.()
      expect(await labels()).toBe(0)
      await second.close()
    })

    test('a container that somebody removes is lost', async () => {
      const provider = docker({ hosts: [here()], network: 'host' })
      const one = specOf(server)
      const running = await provider.start(one, { signal })
      await daemon().api.getContainer(`manyhost-${one.id}`).remove({ force: true })
      const exit = await resolveWithin(10_000, running.exited)
      expect(exit?.reason).toMatch(/lost|killed/)
      await provider.close?.()
    })

    test('what a dead session left stays with `keep`, and goes with `sweep` or by the name of its owner', async () => {
      const name = (): string => `left-${randomBytes(4).toString('hex')}`
      const leave = async (owner: string): Promise<string> => {
        const { id } = await daemon().api.createContainer({
          name: name(),
          Image: IMAGE,
          Entrypoint: [...SERVER],
          Labels: { 'manyhost.session': 'gone', 'manyhost.owner': owner },
        })
        return id
      }
      const isThere = (id: string): Promise<boolean> =>
        daemon()
          .api.getContainer(id)
          .inspect()
          .then(
            () => true,
            () => false,
          )
      const mine = await leave('shop')
      const strangers = await leave('another machine:1:1')
      for (const adopt of ['keep', 'sweep'] as const) {
        const provider = docker({ hosts: [here()], network: 'host', adopt, owner: 'shop' })
        await serving(provider)
        await provider.close?.()
        expect(await isThere(mine)).toBe(adopt === 'keep')
        expect(await isThere(strangers)).toBe(true)
      }
      await daemon().api.getContainer(strangers).remove({ force: true })
    })

    test('an image that is not there, and may not be fetched, or cannot', async () => {
      for (const pull of ['never', 'missing'] as const) {
        const provider = docker({ hosts: [here()], network: 'host', pull })
        const one = specOf({ ...server, image: '127.0.0.1:9/none' })
        const error = await rejectionOf(provider.start(one, { signal }))
        expect(error.code).toBe('MANYHOST_START_FAILED')
        expect(error.message).toMatch(pull === 'never' ? /[Nn]o such image/ : /cannot fetch image/)
        await provider.close?.()
      }
    })

    test('an engine that hangs for a while is waited for', async () => {
      const provider = docker({ hosts: [here()], network: 'host' })
      await serving(provider)
      process.kill(daemon().pid, 'SIGSTOP')
      const starting = serving(provider)
      expect(await resolveWithin(2_000, starting)).toBeUndefined()
      process.kill(daemon().pid, 'SIGCONT')
      expect(await get((await starting).dispatcher, '/cwd')).toBe('/')
      await provider.close?.()
    })
  })

  test('ports are published from a bridge', async () => {
    const bridged = await startEngine('docker', 'bridge')
    try {
      const provider = docker({
        hosts: [`unix://${bridged.socket}`],
        publish: bridged.address,
      })
      const [one, other] = [await serving(provider), await serving(provider)]
      expect(one.address).not.toBe(other.address)
      const env = JSON.parse(await get(one.dispatcher, '/env'))
      expect(env).toMatchObject({ HOST: '0.0.0.0', PORT: '8080' })
      expect(one.address).toMatch(new RegExp(`^http://${bridged.address}:\\d+$`))
      await provider.close?.()
    } finally {
      await bridged.stop()
    }
  })

  describe('docker: behind TLS', () => {
    const folder = mkdtempSync(join(tmpdir(), 'manyhost-tls-'))
    const certs = join(folder, 'ours')
    // Of an authority that the engine does not know, and that knows the engine as little.
    const others = join(folder, 'others')
    let engine: Daemon | undefined
    let host = ''

    beforeAll(async () => {
      for (const one of [certs, others]) makeCertificates(one)
      const port = await freePort()
      host = `tcp://127.0.0.1:${port}`
      const file = (name: string): string => join(certs, name)
      engine = await startEngine('docker', 'host', [
        `--host=${host}`,
        '--tlsverify',
        `--tlscacert=${file('ca.pem')}`,
        `--tlscert=${file('server-cert.pem')}`,
        `--tlskey=${file('server-key.pem')}`,
      ])
    })
    afterAll(async () => {
      await engine?.stop()
      rmSync(folder, { recursive: true, force: true })
    })

    const remote = (given: object): Provider =>
      docker({ hosts: [host], network: 'host', publish: '127.0.0.1', ...given })

    test('both prove who they are: an instance serves, its end is told, files are copied', async () => {
      const provider = remote({ certs })
      const running = await serving(provider)
      expect(await get(running.dispatcher, '/cwd')).toBe('/')
      const [container] = (await engine?.api.listContainers()) ?? []
      await engine?.api.getContainer(container?.Id ?? '').kill()
      expect(await running.exited).toMatchObject({ reason: 'killed' })
      const there = join(certs, 'ca.pem')
      const copying = specOf({
        image: IMAGE,
        startup: async (context) => {
          await context.upload(there, '/tmp/copied')
          expect(await context.run('cat', '/tmp/copied')).toBe(readFileSync(there, 'utf8'))
        },
      })
      await provider.start(copying, { signal })
      await provider.close?.()
      expect(await engine?.api.listContainers({ all: true })).toEqual([])
    })

    test('a client of another authority, one that trusts another, and one without TLS get nothing', async () => {
      const mixed = join(folder, 'mixed')
      mkdirSync(mixed)
      for (const name of ['cert.pem', 'key.pem'])
        copyFileSync(join(others, name), join(mixed, name))
      copyFileSync(join(certs, 'ca.pem'), join(mixed, 'ca.pem'))
      for (const [given, why] of [
        [{ certs: mixed }, /certificate|alert|socket hang up|ECONNRESET/i],
        [{ certs: others }, /certificate|signature/i],
        // Its words may be lost: it ends the connection with a body unread, which resets it (RFC 9112 section 9.6).
        [{}, /HTTP request to an HTTPS server|ECONNRESET|socket hang up/],
      ] as const) {
        const provider = remote(given)
        const error = await rejectionOf(provider.start(specOf(server), { signal }))
        expect(error.code).toBe('MANYHOST_START_FAILED')
        expect(error.message).toMatch(why)
        await provider.close?.()
      }
      expect(await engine?.api.listContainers({ all: true })).toEqual([])
    })
  })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
