/** Agents in network namespaces of their own: a line that is slow, loses packets, or is cut without a word. */
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { AgentsProvider } from '../../providers/agent/index.ts'
import { Session } from '../../src/index.ts'
import { findInstancePids, service, waitForReady, waitUntil } from '../help.ts'
import {
  buildCommandLine,
  KEY,
  openTestAgents,
  removeBuild,
  waitForAgents,
} from '../providers/agent/help.ts'

const url = 'http://far'
/** Of this very process, so that two runs do not meet. */
const space = `mh-${process.pid % 10_000}`
const [near, far] = [`${space}-a`, `${space}-b`]
const net = `10.${100 + (process.pid % 100)}.${process.pid % 250}`

const run = (program: string, ...args: string[]): void =>
  void execFileSync(program, args, { stdio: 'pipe' })
const ip = (...args: string[]): void => run('ip', ...args)
/** In the far namespace. `ip netns exec` would mount /sys anew. */
const there = (...command: string[]): void =>
  run('nsenter', `--net=/run/netns/${space}`, ...command)
const why = whyNot()
if (why) console.error(`!! SKIPPED: agents in network namespaces: ${why}`)

/** What keeps us from making namespaces. */
function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root makes network namespaces'
  try {
    ip('netns', 'add', `${space}-try`)
    ip('netns', 'del', `${space}-try`)
    return undefined
  } catch (error) {
    return `ip netns does not work here: ${(error as Error).message.split('\n')[0]}`
  }
}

const hasLoss = !why && canDrop()
if (!why && !hasLoss) console.error('!! NOT TRIED: lost packets and resets: no iptables here')

/** Whether packets can be lost: the kernel of a small machine has no netem, but a filter that drops at random. */
function canDrop(): boolean {
  try {
    run('iptables', '-m', 'statistic', '--help')
    return true
  } catch {
    return false
  }
}

describe.skipIf(why !== undefined)(
  'an agent behind a line of its own',
  { timeout: 120_000 },
  () => {
    let provider: AgentsProvider
    let session: Session
    let relay: Relay | undefined
    const ends: (() => Promise<unknown>)[] = []

    beforeAll(async () => {
      ip('netns', 'add', space)
      ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far)
      ip('link', 'set', far, 'netns', space)
      ip('addr', 'add', `${net}.1/24`, 'dev', near)
      ip('link', 'set', near, 'up')
      ip('-n', space, 'addr', 'add', `${net}.2/24`, 'dev', far)
      ip('-n', space, 'link', 'set', far, 'up')
      ip('-n', space, 'link', 'set', 'lo', 'up')
      await buildCommandLine()
    })
    afterEach(async () => {
      ip('-n', space, 'link', 'set', far, 'up')
      if (hasLoss) there('iptables', '-F')
      await relay?.close()
      relay = undefined
      await session?.close({ force: true })
      for (const end of ends.splice(0)) await end()
    })
    afterAll(async () => {
      try {
        ip('netns', 'del', space)
      } catch {}
      await removeBuild()
    })

    /** An agent in the namespace, or here. */
    async function agent(name: string, isFar: boolean, address?: string): Promise<void> {
      const main = join(await buildCommandLine(), 'src/cli/main.js')
      const hub = address ?? (await provider.address())
      const flags = ['--connect', hub, '--insecure', '--max-instances', '4']
      const command = [process.execPath, main, 'agent', ...flags, '--name', name]
      const [program = '', ...args] = isFar ? ['ip', 'netns', 'exec', space, ...command] : command
      const env = { ...process.env, MANYHOST_AGENT_KEY: KEY }
      const child = spawn(program, args, { env, stdio: 'ignore' })
      const exit = once(child, 'exit')
      ends.push(() => {
        child.kill('SIGKILL')
        return exit
      })
    }

    function open(size: number, options = {}): void {
      provider = openTestAgents({ listen: `${net}.1:0`, insecure: true, ...options })
      session = new Session({ provider, tickInterval: 100 })
      session.startup({ url, command: service, initSize: size })
    }

    it('partitioned: evicted, requests go elsewhere, and what ran there ends by itself', async () => {
      open(1, { evictAfter: 4_000 })
      await agent('far', true)
      await waitForReady(session, url, 1)
      const [first] = session.cluster(url).instances
      const slow = session.client().get(`${url}/sleep/2500`)
      await waitUntil(() => session.cluster(url).inFlight === 1)
      ip('-n', space, 'link', 'set', far, 'down')
      await agent('near', false)
      const answer = await slow
      expect(answer.status).toBe(200)
      expect(session.cluster(url).instances.map(({ id }) => id)).not.toContain(first?.id)
      await waitUntil(() => findInstancePids(first?.id ?? '').length === 0)
      ip('-n', space, 'link', 'set', far, 'up')
      await waitForAgents(provider, 2)
    })

    it('cut for a moment: nothing is evicted, nothing is lost', async () => {
      open(2)
      await agent('far', true)
      await waitForReady(session, url, 2)
      const before = session.cluster(url).instances.map(({ id }) => id)
      const slow = session.client().get(`${url}/sleep/800`)
      await waitUntil(() => session.cluster(url).inFlight === 1)
      ip('-n', space, 'link', 'set', far, 'down')
      await new Promise((done) => setTimeout(done, 300))
      ip('-n', space, 'link', 'set', far, 'up')
      expect((await slow).status).toBe(200)
      expect(session.cluster(url).instances.map(({ id }) => id)).toEqual(before)
    })

    it.skipIf(!hasLoss)(
      'reset: every connection of the line is broken, and what ran there runs on',
      async () => {
        open(2)
        await agent('far', true)
        await waitForReady(session, url, 2)
        const before = session.cluster(url).instances.map(({ id }) => id)
        const client = session.client()
        const slow = Promise.all(Array.from({ length: 4 }, () => client.get(`${url}/sleep/300`)))
        slow.catch(() => {})
        await waitUntil(() => session.cluster(url).inFlight > 0)
        const rule = ['-p', 'tcp', '-j', 'REJECT', '--reject-with', 'tcp-reset']
        there('iptables', '-A', 'INPUT', ...rule)
        await waitUntil(() => provider.agents[0]?.state === 'away')
        there('iptables', '-D', 'INPUT', ...rule)
        for (const answer of await slow) expect(answer.status).toBe(200)
        await waitForAgents(provider)
        expect(session.cluster(url).instances.map(({ id }) => id)).toEqual(before)
        expect((await client.get(`${url}/pid`)).status).toBe(200)
      },
    )

    it('slow, narrow and lossy: all of it works, and is only later', async () => {
      const narrow = ['root', 'tbf', 'rate', '2mbit', 'burst', '8k', 'latency', '400ms']
      run('tc', 'qdisc', 'add', 'dev', near, ...narrow)
      there('tc', 'qdisc', 'add', 'dev', far, ...narrow)
      try {
        if (hasLoss) {
          for (const chain of ['INPUT', 'OUTPUT']) {
            const one = ['-m', 'statistic', '--mode', 'random', '--probability', '0.03']
            there('iptables', '-A', chain, '-p', 'tcp', ...one, '-j', 'DROP')
          }
        }
        open(0)
        relay = await delayed(await provider.address(), `${net}.1`, 100)
        await agent('far', true, relay.address)
        const file = randomBytes(200_000)
        const folder = mkdtempSync(join(tmpdir(), 'manyhost-line-'))
        ends.push(async () => rmSync(folder, { recursive: true, force: true }))
        writeFileSync(join(folder, 'file'), file)
        let sum = ''
        const [program = '', ...args] = service
        session.startup({ url: 'http://slow', initSize: 2, concurrency: 4 }, async (ctx) => {
          const to = join(folder, `there-${ctx.env.MANYHOST_INSTANCE}`)
          await ctx.upload(join(folder, 'file'), to)
          sum = (await ctx.run('sha256sum', to)).slice(0, 64)
          await ctx.spawn(program, ...args)
        })
        await waitForReady(session, 'http://slow', 2)
        expect(sum).toBe(createHash('sha256').update(file).digest('hex'))
        const client = session.client()
        const answers = await Promise.all(
          Array.from({ length: 40 }, async () => (await client.get('http://slow/pid')).text()),
        )
        expect(new Set(answers).size).toBe(2)
      } finally {
        run('tc', 'qdisc', 'del', 'dev', near, 'root')
        there('tc', 'qdisc', 'del', 'dev', far, 'root')
      }
    })
  },
)

interface Relay {
  readonly address: string
  close(): Promise<void>
}

/** What netem would do to packets, done to what they carry: each way `ms` later. */
async function delayed(to: string, host: string, ms: number): Promise<Relay> {
  const [, port] = to.split(':')
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (one) => {
    const other = connect({ host, port: Number(port), allowHalfOpen: true })
    for (const [from, into] of [
      [one, other],
      [other, one],
    ] as const) {
      sockets.add(from)
      from.on('data', (chunk) => setTimeout(() => into.write(chunk), ms))
      from.on('end', () => setTimeout(() => into.end(), ms))
      from.on('error', () => into.destroy())
      from.on('close', () => into.destroy())
    }
  }).listen(0, host)
  await once(server, 'listening')
  return {
    address: `${host}:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
