/**
 * A workload whose pods are the instances, at an API server that is played: it knows one Deployment, and each change of its
 * replicas waits until the test lets it be made. test/engines/kubernetes-scale.ts runs the real one.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { kubernetes } from '../../../providers/kubernetes/index.ts'
import type { Provider } from '../../../src/core/provider.ts'
import { rejectionOf, waitUntil } from '../../help.ts'
import { specOf } from '../process-help.ts'

interface PlayedWorkload {
  readonly provider: Provider
  /** The numbers of replicas that were asked for, oldest first; also those that are not in effect yet. */
  readonly asked: readonly number[]
  /** Puts the oldest change that waits into effect. */
  apply(): Promise<void>
}

async function openWorkload(replicas: number): Promise<PlayedWorkload> {
  const asked: number[] = []
  const waiting: (() => void)[] = []
  const watches = new Set<ServerResponse>()
  let pods: object[] = []
  let count = 0
  const tell = (type: string, object: object): void => {
    for (const watch of watches) watch.write(`${JSON.stringify({ type, object })}\n`)
  }
  const resize = (wanted: number): void => {
    for (const pod of pods.slice(wanted)) tell('DELETED', pod)
    pods = pods.slice(0, wanted)
    while (pods.length < wanted) {
      count++
      const pod = {
        metadata: { name: `calc-${count}`, uid: `uid-${count}`, resourceVersion: String(count) },
        spec: { containers: [{ name: 'calc' }] },
        status: {
          phase: 'Running',
          podIP: '127.0.0.1',
          conditions: [{ type: 'Ready', status: 'True' }],
          containerStatuses: [{ name: 'calc', ready: true, state: { running: {} } }],
        },
      }
      pods.push(pod)
      tell('ADDED', pod)
    }
  }
  resize(replicas)

  const answer = (response: ServerResponse, body: object): void => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://api')
    if (pathname.endsWith('/pods') && searchParams.get('watch') === 'true') {
      watches.add(response.writeHead(200))
      response.flushHeaders()
    } else if (pathname.endsWith('/pods')) {
      answer(response, { metadata: { resourceVersion: String(count) }, items: pods })
    } else if (pathname.endsWith('/scale')) {
      const [{ value }] = JSON.parse(Buffer.concat(chunks).toString()) as [{ value: number }]
      asked.push(value)
      waiting.push(() => {
        resize(value)
        answer(response, {})
      })
    } else {
      answer(response, { spec: { replicas, selector: { matchLabels: { app: 'calc' } } } })
    }
  }
  const server = createServer((request, response) => void handle(request, response))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-scale-'))
  const kubeconfig = join(folder, 'config')
  const { port } = server.address() as AddressInfo
  const context = { name: 'played', context: { cluster: 'played', user: 'played' } }
  const cluster = { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true }
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      'current-context': 'played',
      contexts: [context],
      clusters: [{ name: 'played', cluster }],
      users: [{ name: 'played', user: {} }],
    }),
  )
  const provider = kubernetes({
    kubeconfig,
    reach: 'pod-ip',
    scale: { kind: 'deployment', name: 'calc' },
  })
  const apply = async (): Promise<void> => (await waitUntil(() => waiting.shift() ?? false))()
  onTestFinished(async () => {
    const closed = Promise.resolve(provider.close?.())
    // The number of replicas is set back; that change waits, too.
    const applying = setInterval(() => waiting.shift()?.(), 5)
    await closed
    clearInterval(applying)
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { provider, asked, apply }
}

const { signal: unending } = new AbortController()

test('a start during a change to fewer replicas asks for its own pod when that change is made', async () => {
  const { provider, asked, apply } = await openWorkload(1)
  const first = await provider.start(specOf(), { signal: unending })
  void first.stop(0)
  await waitUntil(() => asked.length === 1)
  const second = provider.start(specOf(), { signal: unending })
  await apply()
  await apply()
  expect((await second).address).toBeDefined()
  expect(asked).toEqual([0, 1])
})

test('existing pods are used first: a start does not make the workload smaller', async () => {
  const { provider, asked } = await openWorkload(3)
  const running = await Promise.all(
    [1, 2, 3].map(() => provider.start(specOf(), { signal: unending })),
  )
  expect(running).toHaveLength(3)
  expect(asked).toEqual([])
})

test('a start that is given up does not wait for a change that is under way', async () => {
  const { provider, asked, apply } = await openWorkload(1)
  const first = await provider.start(specOf(), { signal: unending })
  void first.stop(0)
  await waitUntil(() => asked.length === 1)
  const abort = new AbortController()
  const given = rejectionOf(provider.start(specOf(), { signal: abort.signal }))
  abort.abort(new Error('given up'))
  expect((await given).message).toBe('given up')
  await apply()
  await first.exited
  expect(asked).toEqual([0])
})
