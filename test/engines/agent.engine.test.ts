/** Agents in network namespaces of their own: a line that is slow, loses packets, or is cut without a word. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { AgentsProvider } from '../../providers/agent/index.ts'
import { Session } from '../../src/index.ts'
import { come, compiled, hub, KEY, removeCompiled } from '../agent/help.ts'
import { pidsOf, ready, service, until } from '../help.ts'

const url = 'http://far'
/** Of this very process, so that two runs do not meet. */
const space = `mh-${process.pid % 10_000}`
const [near, far] = [`${space}-a`, `${space}-b`]
const net = `10.${100 + (process.pid % 100)}.${process.pid % 250}`

const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' })
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

describe.skipIf(why !== undefined)(
  'an agent behind a line of its own',
  { timeout: 120_000 },
  () => {
    let provider: AgentsProvider
    let session: Session
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
      await compiled()
    })
    afterEach(async () => {
      ip('-n', space, 'link', 'set', far, 'up')
      await session?.close({ force: true })
      for (const end of ends.splice(0)) await end()
    })
    afterAll(async () => {
      try {
        ip('netns', 'del', space)
      } catch {}
      await removeCompiled()
    })

    /** An agent in the namespace, or here. */
    async function agent(name: string, isFar: boolean): Promise<void> {
      const main = join(await compiled(), 'src/cli/main.js')
      const flags = ['--connect', await provider.address(), '--insecure', '--places', '4']
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

    function open(size: number): void {
      provider = hub({ listen: `${net}.1:0`, insecure: true, evictAfter: 1_500 })
      session = new Session({ provider, tickInterval: 100 })
      session.startup({ url, command: service, initSize: size })
    }

    it('partitioned: evicted, requests go elsewhere, and what ran there ends by itself', async () => {
      open(1)
      await agent('far', true)
      await ready(session, url, 1)
      const [first] = session.cluster(url).instances
      const slow = session.client().get(`${url}/sleep/2500`)
      await until(() => session.cluster(url).inFlight === 1)
      ip('-n', space, 'link', 'set', far, 'down')
      await agent('near', false)
      const answer = await slow
      expect(answer.status).toBe(200)
      expect(session.cluster(url).instances.map(({ id }) => id)).not.toContain(first?.id)
      await until(() => pidsOf(first?.id ?? '').length === 0)
      ip('-n', space, 'link', 'set', far, 'up')
      await come(provider, 2)
    })

    it('cut for a moment: nothing is evicted, nothing is lost', async () => {
      open(2)
      await agent('far', true)
      await ready(session, url, 2)
      const before = session.cluster(url).instances.map(({ id }) => id)
      const slow = session.client().get(`${url}/sleep/800`)
      await until(() => session.cluster(url).inFlight === 1)
      ip('-n', space, 'link', 'set', far, 'down')
      await new Promise((done) => setTimeout(done, 300))
      ip('-n', space, 'link', 'set', far, 'up')
      expect((await slow).status).toBe(200)
      expect(session.cluster(url).instances.map(({ id }) => id)).toEqual(before)
    })

    it('slow: 200 ms of delay and packets lost, and all requests are answered', async ({
      skip,
    }) => {
      try {
        const how = ['delay', '100ms', '20ms', 'loss', '2%']
        execFileSync('tc', ['qdisc', 'add', 'dev', near, 'root', 'netem', ...how], {
          stdio: 'pipe',
        })
      } catch (error) {
        console.error(`!! SKIPPED: a slow line: no netem here: ${(error as Error).message.trim()}`)
        return skip('no netem')
      }
      try {
        open(2)
        await agent('far', true)
        await ready(session, url, 2)
        const client = session.client()
        const answers = await Promise.all(
          Array.from({ length: 20 }, async () => (await client.get(`${url}/pid`)).text()),
        )
        expect(answers.length).toBe(20)
      } finally {
        execFileSync('tc', ['qdisc', 'del', 'dev', near, 'root'], { stdio: 'pipe' })
      }
    })
  },
)
