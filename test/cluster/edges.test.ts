/** Rules of the control plane that decide only in the moments between two states. */
import { afterEach, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { SessionCore } from '../../src/session/session.ts'
import { createLatch, NEVER, rejectionOf, runEventLoop, waitUntil } from '../help.ts'

const sessions: SessionCore[] = []
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close({ force: true })))
})

const url = 'http://calc'

function open(provider: Provider, options: object = {}): SessionCore {
  const session = new SessionCore({ provider, tickInterval: NEVER })
  sessions.push(session)
  session.startup({ url, initSize: 1, stopGrace: 0, ...options })
  return session
}

/** Instances of `inner`, with what of them is another. */
function changed(
  inner: Provider,
  change: (running: Running) => Partial<Running>,
  limit?: number,
): Provider {
  return {
    name: 'changed',
    capabilities: inner.capabilities,
    ...(limit !== undefined && { limit }),
    async start(...args) {
      const running = await inner.start(...args)
      const { dispatcher, exited } = running
      const accepts = async (signal: AbortSignal): Promise<void> => running.accepts?.(signal)
      const stop = (grace: number): Promise<void> => running.stop(grace)
      return { dispatcher, exited, accepts, stop, ...change(running) }
    },
  }
}

test('an instance that is asked to end while it is probed takes no request, and ends with its last one', async () => {
  const asked = createLatch()
  const probe = createLatch()
  const held = createLatch()
  const inner = inProcess(
    async (req, res) => {
      if (req.url === '/cut') return void res.destroy()
      if (req.url === '/hold') await held.promise
      res.end('done')
    },
    { style: 'node' },
  )
  let isProbed = false
  const provider = changed(inner, (running) => ({
    async accepts(signal) {
      await running.accepts?.(signal)
      if (!isProbed) return
      asked.open()
      await probe.promise
    },
  }))
  const session = open(provider, { concurrency: 2, ejectAfter: 5, drainTimeout: NEVER })
  const client = session.client()
  const holding = client.get(`${url}/hold`)
  const cluster = session.cluster(url)
  await waitUntil(() => cluster.inFlight === 1)
  isProbed = true
  const cut = rejectionOf(client.get(`${url}/cut`, { resend: 'never' }))
  await asked.promise
  const [instance] = cluster.instances
  session.setSize(url, 0)
  await waitUntil(() => instance?.state === 'draining')
  probe.open()
  await runEventLoop(5)
  expect(instance?.target?.open).toBe(false)
  held.open()
  expect(await (await holding).text()).toBe('done')
  await cut
  await waitUntil(() => cluster.instances.length === 0)
})

test('an instance that fails now and then, and serves between, is never given up for that', async () => {
  const provider = inProcess(
    (req, res) => (req.url === '/cut' ? res.destroy() : res.end(req.instance)),
    { style: 'node' },
  )
  const session = open(provider, { ejectAfter: 1 })
  const client = session.client()
  const first = await (await client.get(url)).text()
  // More than would give it up in a row.
  for (let i = 0; i < 10; i++) {
    await rejectionOf(client.get(`${url}/cut`, { resend: 'never' }))
    expect(await (await client.get(url)).text()).toBe(first)
  }
})

test('what is on its way out still counts against the limit of its provider', async () => {
  const stopping = createLatch()
  const inner = inProcess((req, res) => res.end(req.instance), { style: 'node' })
  const provider = changed(
    inner,
    (running) => ({
      async stop(grace) {
        await stopping.promise
        await running.stop(grace)
      },
    }),
    1,
  )
  const session = open(provider)
  const cluster = session.cluster(url)
  await waitUntil(() => cluster.instances[0]?.state === 'ready')
  const first = cluster.instances[0]?.id as string
  cluster.drain(first)
  for (let i = 0; i < 3; i++) {
    cluster.requestReconcile()
    await runEventLoop(3)
  }
  expect(cluster.instances.map(({ id, state }) => [id, state])).toEqual([[first, 'draining']])
  stopping.open()
  await waitUntil(() => cluster.instances[0]?.state === 'ready')
  expect(cluster.instances.map(({ id }) => id)).not.toContain(first)
})
