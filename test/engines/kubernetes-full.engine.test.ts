/** The kubernetes provider on a whole cluster: real pods, on a real node. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { kubernetes } from '../../providers/kubernetes/index.ts'
import { podName } from '../../providers/kubernetes/names.ts'
import type { Provider, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { Session } from '../../src/index.ts'
import { findInstancePids, recordEvents, rejectionOf, waitForReady } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { get, pidsWith, specOf, waitUntil } from '../providers/process-help.ts'
import { withEngine } from './engine.ts'
import { type FullCluster, IMAGE, KUBELET, NODE, openFullCluster } from './kubernetes-full.ts'
import { scaleOf } from './kubernetes-scale.ts'

/** Every program of the cluster starts, on a machine that may be busy, in ms. */
const OPENING = 300_000

withEngine(
  KUBELET,
  'Kubernetes, a whole cluster',
  () => {
    let cluster: FullCluster
    const scratch = mkdtempSync(join(tmpdir(), 'manyhost-kubernetes-full-'))
    const options = { kubeconfig: '', reach: 'pod-ip', image: IMAGE } as const
    const relayed = { ...options }
    const orphanOptions = { ...options }
    const command = ['node', '/app/conformance-server.mjs']
    const { signal: unending } = new AbortController()
    const url = 'http://calc'

    beforeAll(async () => {
      cluster = await openFullCluster()
      Object.assign(options, { kubeconfig: cluster.kubeconfig })
      Object.assign(relayed, { kubeconfig: cluster.relayed })
      Object.assign(orphanOptions, { kubeconfig: cluster.kubeconfig })
    }, OPENING)
    afterAll(async () => {
      await cluster?.close()
      rmSync(scratch, { recursive: true, force: true })
    })

    const podOf = (id: string) =>
      cluster.core.readNamespacedPod({ name: podName(id), namespace: 'default' })

    const isPod = (id: string): Promise<boolean> =>
      podOf(id).then(
        () => true,
        (error: { code?: number }) => {
          if (error.code === 404) return false
          throw error
        },
      )

    function signal(id: string, name: NodeJS.Signals): void {
      for (const pid of findInstancePids(id)) process.kill(pid, name)
    }

    /** Whether the cluster knows of the end of its container. */
    async function isKnown(id: string): Promise<boolean> {
      if (!(await isPod(id))) return true
      const { status } = await podOf(id)
      return status?.containerStatuses?.some(({ state }) => state?.terminated) ?? false
    }

    conformance({
      name: 'kubernetes-full',
      provider: () => kubernetes(relayed),
      server: (...args) => [...command, ...args],
      scratch: '/tmp',
      exists: async (id) => findInstancePids(id).length > 0 || (await isPod(id)),
      kill: async (id) => {
        signal(id, 'SIGKILL')
        // A kubelet looks at its containers once a second, and then tells: what comes after that is ours.
        await waitUntil(() => isKnown(id), 60_000)
      },
      freeze: async (id) => signal(id, 'SIGSTOP'),
      thaw: async (id) => signal(id, 'SIGCONT'),
      labels: async (id) =>
        JSON.parse((await podOf(id)).metadata?.annotations?.['manyhost/labels'] ?? '{}'),
      resources: async (id) => {
        const limits = (await podOf(id)).spec?.containers[0]?.resources?.limits
        return { cpus: Number(limits?.cpu), memory: Number(limits?.memory) }
      },
      unreachable: async () => {
        await cluster.cut()
        return () => cluster.restore()
      },
      elsewhere: {
        module: 'providers/kubernetes/index.js',
        make: 'kubernetes',
        options: orphanOptions,
      },
    })

    async function serving(provider: Provider, part: Partial<StartSpec> = { command }) {
      const spec = specOf(part)
      const running = await provider.start(spec, { signal: unending })
      await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false, 30_000)
      return { spec, id: spec.id, running }
    }

    describe('kubernetes-full: pods', () => {
      let provider: Provider
      beforeEach(() => {
        provider = kubernetes(options)
      })
      afterEach(() => provider.close?.())

      test('examples/calculator.js runs unchanged', async () => {
        const args = ['--provider', 'kubernetes', '--options', JSON.stringify(options)]
        const run = promisify(execFile)
        const { stdout } = await run(process.execPath, ['examples/calculator.js', ...args])
        expect(stdout).toMatch(/kill -9 calc-/)
        expect(stdout).toMatch(/results: 0 2 4 .* 98/)
        expect(stdout).toMatch(/code="200",outcome="answered"\} 250/)
        expect(await cluster.kubectl('get', 'pods', '-o', 'name')).toBe('')
      })

      test('through the API server and the kubelet: requests, and a server that does not listen yet', async () => {
        const own = kubernetes({ ...options, reach: 'forward' })
        const spec = specOf({ command: [...command, '--late=3000'] })
        const running = await own.start(spec, { signal: unending })
        await expect(running.accepts?.(unending)).rejects.toThrow(/refuses the connection/)
        await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false, 30_000)
        const pids = Array.from({ length: 12 }, () => get(running.dispatcher, '/pid'))
        expect(new Set(await Promise.all(pids)).size).toBe(1)
        const body = Buffer.alloc(3_000_000, 'x')
        const answer = await running.dispatcher.request({ path: '/pid', method: 'POST', body })
        expect(Number(await answer.body.text())).toBeGreaterThan(0)
        await get(running.dispatcher, '/exit?4').catch(() => {})
        expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 4' })
        await own.close?.()
      })

      test('a startup function in a pod that runs as nobody in particular', async () => {
        const template = { spec: { securityContext: { runAsUser: 1_000, runAsNonRoot: true } } }
        const own = kubernetes({ ...options, template })
        let who = ''
        const { spec, running } = await serving(own, {
          startup: async (context) => {
            who = await context.run('id', '-u')
            await context.spawn(...(command as [string, string]))
          },
        })
        expect(who).toBe('1000\n')
        await waitUntil(() => spec.output.includes('listens\n'))
        await running.stop(20_000)
        expect(spec.output).toContain('asked to stop\n')
        await own.close?.()
      })

      test('an image that cannot be had fails the start, with the words of the node', async () => {
        const spec = specOf({ command, image: '127.0.0.1:9/no-such-image:1' })
        const error = await rejectionOf(provider.start(spec, { signal: unending }))
        expect(error.code).toBe('MANYHOST_START_FAILED')
        expect(error.message).toMatch(/ImagePullBackOff: Back-off pulling image/)
        await waitUntil(async () => !(await isPod(spec.id)), 30_000)
      })

      test('one that no node has room for says so, and giving it up leaves nothing', async () => {
        const giveUp = new AbortController()
        const spec = specOf({ command, resources: { cpus: 1_000 } })
        const starting = rejectionOf(provider.start(spec, { signal: giveUp.signal }))
        await waitUntil(
          () => spec.output.includes('waits: 0/1 nodes are available: 1 Insufficient cpu'),
          30_000,
        )
        giveUp.abort(new Error('enough'))
        expect((await starting).message).toContain('the start was given up')
        await waitUntil(async () => !(await isPod(spec.id)), 30_000)
      })

      test('a node that is being emptied: the instance leaves, and another one takes its place', async () => {
        const session = new Session({ provider, tickInterval: 100 })
        session.startup({ url, command: [...command, '--deaf'] })
        await waitForReady(session, url, 1)
        const [first] = session.cluster(url).instances
        const states = recordEvents(session, 'instance')
        await cluster.kubectl('taint', 'node', NODE, 'emptied=yes:NoExecute')
        await waitUntil(
          () =>
            states.some(({ state, instance }) => state === 'draining' && instance === first?.id),
          30_000,
        )
        await cluster.kubectl('taint', 'node', NODE, 'emptied-')
        await waitUntil(
          () => states.some(({ state, instance }) => state === 'ready' && instance !== first?.id),
          60_000,
        )
        expect(states.find(({ instance }) => instance === first?.id)).toMatchObject({
          state: 'draining',
          reason: expect.stringMatching(/being deleted/),
        })
        await session.close({ force: true })
      })

      test('what the node itself refuses is lost, with its reason', async () => {
        // Past the scheduler, which would not have chosen it.
        const own = kubernetes({ ...options, template: { spec: { nodeName: NODE } } })
        const spec = specOf({ command, resources: { cpus: 1_000 } })
        const error = await rejectionOf(own.start(spec, { signal: unending }))
        expect(error.message).toMatch(/it ended: its node ended it: OutOfcpu: .*enough/)
        await waitUntil(async () => !(await isPod(spec.id)), 30_000)
        await own.close?.()
      })

      test('a node that falls silent: its instances are lost, and their pods go when it is back', {
        timeout: 240_000,
      }, async () => {
        const { id, running } = await serving(provider)
        process.kill(cluster.kubelet, 'SIGSTOP')
        try {
          expect(await resolveWithin(120_000, running.exited)).toMatchObject({
            reason: 'lost',
            detail: expect.stringMatching(/its node real does not answer/),
          })
        } finally {
          process.kill(cluster.kubelet, 'SIGCONT')
        }
        await waitUntil(async () => !(await isPod(id)) && findInstancePids(id).length === 0, 60_000)
        await waitUntil(async () => {
          const said = await cluster.kubectl('get', 'node', NODE, '--no-headers')
          return /\bReady\b/.test(said) && !/NotReady/.test(said)
        }, 60_000)
      })
    })

    scaleOf(() => cluster, { image: IMAGE, command })

    describe('kubernetes-full: the gateway in the cluster', () => {
      const manifests = 'examples/deploy/kubernetes'
      const all = ['rbac', 'config', 'deployment', 'service'].map((name) =>
        join(manifests, `${name}.yaml`),
      )
      const files = all.flatMap((path) => ['-f', path])
      const jsonpath = (path: string): string[] => ['-o', `jsonpath={${path}}`]

      async function fetchService(name: string, path: string, init?: RequestInit) {
        const at = await cluster.kubectl('get', 'service', name, ...jsonpath('.spec.clusterIP'))
        const ports = jsonpath('.spec.ports[0].port')
        const port = await cluster.kubectl('get', 'service', name, ...ports)
        const signal = AbortSignal.timeout(60_000)
        return fetch(`http://${at}:${port}${path}`, { ...init, signal })
      }

      const instances = async (): Promise<string[]> => {
        const names = ['get', 'pods', '-l', 'manyhost/session', '-o', 'name']
        return (await cluster.kubectl(...names)).trim().split('\n').filter(Boolean)
      }

      test('applied as they are, its manifests serve the fleet, and what it started ends with it', {
        timeout: 400_000,
      }, async () => {
        const token = 'a'.repeat(64)
        const literal = `--from-literal=token=${token}`
        await cluster.kubectl('create', 'secret', 'generic', 'manyhost', literal)
        await cluster.kubectl('apply', ...files)
        const deployment = ['deployment/manyhost', '--timeout=90s']
        await cluster.kubectl('rollout', 'status', ...deployment)
        const asked = async (): Promise<string> => (await fetchService('manyhost', '/calc/')).text()
        expect(await asked()).toBe('2')
        // One that somebody takes away is replaced.
        const [first = ''] = await instances()
        await cluster.kubectl('delete', first, '--wait=false')
        const answers = await Promise.all(Array.from({ length: 20 }, asked))
        expect(new Set(answers)).toEqual(new Set(['2']))
        const headers = { authorization: `Bearer ${token}` }
        expect((await fetchService('manyhost-admin', '/api/clusters')).status).toBe(401)
        const sized = await fetchService('manyhost-admin', '/api/clusters/calc/size', {
          method: 'PUT',
          headers: { ...headers, 'content-type': 'application/json' },
          body: JSON.stringify({ size: 3 }),
        })
        expect(sized.status).toBe(200)
        await waitUntil(async () => {
          const metrics = await fetchService('manyhost-admin', '/metrics', { headers })
          return /manyhost_instances\{[^}]*state="ready"[^}]*\} 3\n/.test(await metrics.text())
        }, 60_000)
        // Killed, it leaves its pods; the container that takes its place has the same owner, and sweeps them.
        const left = await instances()
        for (const pid of pidsWith('/etc/manyhost/fleet.yaml', 'cmdline'))
          process.kill(pid, 'SIGKILL')
        await waitUntil(async () => {
          const now = await instances()
          return now.length > 0 && !now.some((name) => left.includes(name))
        }, 90_000)
        await cluster.kubectl('rollout', 'status', ...deployment)
        expect(await asked()).toBe('2')
        // Taken away with its rights, it cannot end them any more: they belong to its pod, and go with it.
        await cluster.kubectl('delete', ...files, '--wait=false')
        await waitUntil(async () => (await instances()).length === 0, 150_000)
      })
    })
  },
  'npm run test:engines -- kubernetes-full-build builds it once',
)
