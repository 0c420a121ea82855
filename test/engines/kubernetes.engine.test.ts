/** The kubernetes provider against a real API server, its store and its controllers; the node is played. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { kubernetes } from '../../providers/kubernetes/index.ts'
import { podName } from '../../providers/kubernetes/names.ts'
import type { Provider, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin, sleep } from '../../src/core/time.ts'
import { Session } from '../../src/index.ts'
import { findInstancePids, recordEvents, rejectionOf, waitForReady } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { get, specOf, waitUntil } from '../providers/process-help.ts'
import { API_SERVER } from './control-plane.ts'
import { withEngine } from './engine.ts'
import { type Cluster, openCluster } from './kubernetes.ts'
import { scaleOf } from './kubernetes-scale.ts'

withEngine(
  API_SERVER,
  'Kubernetes',
  () => {
    let cluster: Cluster
    const scratch = mkdtempSync(join(tmpdir(), 'manyhost-kubernetes-'))
    const options = { kubeconfig: '', reach: 'pod-ip', image: 'played' } as const
    const relayed = { ...options }
    const orphanOptions = { ...options }

    beforeAll(async () => {
      cluster = await openCluster()
      Object.assign(options, { kubeconfig: cluster.kubeconfig })
      Object.assign(relayed, { kubeconfig: cluster.relayed })
      Object.assign(orphanOptions, { kubeconfig: cluster.kubeconfig })
    })
    afterAll(async () => {
      await cluster?.close()
      rmSync(scratch, { recursive: true, force: true })
    })

    const podOf = (id: string) =>
      cluster.core.readNamespacedPod({ name: podName(id), namespace: 'default' })

    async function isPod(id: string): Promise<boolean> {
      try {
        await podOf(id)
        return true
      } catch (error) {
        if ((error as { code?: number }).code === 404) return false
        throw error
      }
    }

    function signal(id: string, name: NodeJS.Signals): void {
      for (const pid of findInstancePids(id)) process.kill(pid, name)
    }

    conformance({
      name: 'kubernetes',
      provider: () => kubernetes(relayed),
      server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
      scratch,
      exists: async (id) => findInstancePids(id).length > 0 || (await isPod(id)),
      kill: async (id) => signal(id, 'SIGKILL'),
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
      cannot: {
        'out of memory': 'the node is played, and limits nobody; see the tests of what it tells',
      },
    })

    const command = ['node', resolve('test/fakes/conformance-server.mjs')]
    const { signal: unending } = new AbortController()
    const url = 'http://calc'

    async function serving(provider: Provider, part: Partial<StartSpec> = {}) {
      const spec = specOf({ command, ...part })
      const running = await provider.start(spec, { signal: unending })
      await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false)
      return { spec, id: spec.id, running }
    }

    /** As a kubelet or a node controller would say it. */
    async function patchStatus(
      id: string,
      values: Readonly<Record<string, unknown>>,
    ): Promise<void> {
      const body = Object.entries(values).map(([name, value]) => ({
        op: 'add',
        path: `/status/${name}`,
        value,
      }))
      const name = podName(id)
      await cluster.core.patchNamespacedPodStatus({ name, namespace: 'default', body })
    }

    describe('kubernetes: pods', () => {
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
        const { items } = await cluster.core.listNamespacedPod({ namespace: 'default' })
        expect(items.map(({ metadata }) => metadata?.name)).toEqual([])
      })

      test('from outside of the cluster: each connection through the API server', async () => {
        const own = kubernetes({ ...options, reach: 'forward' })
        const { running } = await serving(own, { concurrency: 8 })
        expect(running.address).toContain(' by default/manyhost-')
        const pids = Array.from({ length: 24 }, () => get(running.dispatcher, '/pid'))
        expect(new Set(await Promise.all(pids)).size).toBe(1)
        const slow = get(running.dispatcher, '/slow?300')
        expect(await get(running.dispatcher, '/cwd')).toMatch(/^\//)
        expect(await slow).toBe('slow')
        const body = Buffer.alloc(3_000_000, 'x')
        const answer = await running.dispatcher.request({ path: '/pid', method: 'POST', body })
        expect(Number(await answer.body.text())).toBeGreaterThan(0)
        await get(running.dispatcher, '/exit?4').catch(() => {})
        expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 4' })
        await own.close?.()
      })

      test('through the API server, a server that does not listen yet is told from one that does', async () => {
        const own = kubernetes({ ...options, reach: 'forward' })
        const spec = specOf({ command: [...command, '--late=1000'] })
        const running = await own.start(spec, { signal: unending })
        await expect(running.accepts?.(unending)).rejects.toThrow(/refuses the connection/)
        await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false)
        await own.close?.()
      })

      test('an upload ends, though the tar there reads on behind the end of its archive', async () => {
        // As that of busybox does.
        const bin = join(scratch, 'bin')
        mkdirSync(bin)
        const tar = '#!/bin/sh\n/bin/tar "$@"; code=$?; cat >/dev/null; exit $code\n'
        writeFileSync(join(bin, 'tar'), tar, { mode: 0o755 })
        writeFileSync(join(scratch, 'big'), Buffer.alloc(700_000, 'x'))
        const [folder, single] = [join(scratch, 'there'), join(scratch, 'alone')]
        const spec = specOf({
          env: { PATH: `${bin}:${process.env.PATH}` },
          startup: async (context) => {
            await context.upload(bin, folder)
            await context.upload(join(scratch, 'big'), single)
            await context.spawn(...(command as [string, string]))
          },
        })
        await provider.start(spec, { signal: unending })
        expect(readFileSync(join(folder, 'tar'), 'utf8')).toBe(tar)
        expect(readFileSync(single).length).toBe(700_000)
      })

      test('out of memory is called so, by what the node tells', async () => {
        const { id, running } = await serving(provider, { resources: { memory: 134_217_728 } })
        cluster.kubelet.outOfMemory(podName(id))
        expect(await running.exited).toEqual({
          reason: 'out-of-memory',
          detail: 'out of memory (exit code 137, limit 134217728 bytes)',
        })
      })

      test('an image that cannot be had fails the start, with the words of the cluster', async () => {
        const spec = specOf({ command, image: 'no-such-image:1' })
        const error = await rejectionOf(provider.start(spec, { signal: unending }))
        expect(error.code).toBe('MANYHOST_START_FAILED')
        expect(error.message).toMatch(/ImagePullBackOff: Back-off pulling image/)
        await waitUntil(async () => !(await isPod(spec.id)))
      })

      test('no pod for a while: it is said what it waits for, and giving up leaves nothing', async () => {
        const own = kubernetes({ ...options, template: { spec: { nodeSelector: { gpu: 'yes' } } } })
        const giveUp = new AbortController()
        const spec = specOf({ command })
        const starting = rejectionOf(own.start(spec, { signal: giveUp.signal }))
        await waitUntil(() => isPod(spec.id))
        const message = '0/1 nodes are available: 1 node(s) did not match.'
        const condition = {
          type: 'PodScheduled',
          status: 'False',
          reason: 'Unschedulable',
          message,
        }
        await patchStatus(spec.id, { conditions: [condition] })
        await waitUntil(() => spec.output.includes(`waits: ${message}`))
        giveUp.abort(new Error('enough'))
        expect((await starting).message).toContain('the start was given up')
        await waitUntil(async () => !(await isPod(spec.id)))
        await own.close?.()
      })

      test('what the API server refuses is told in its words', async () => {
        const own = kubernetes({ ...options, namespace: 'nowhere' })
        const error = await rejectionOf(own.start(specOf({ command }), { signal: unending }))
        expect(error.message).toMatch(/cannot create a pod: 404: namespaces "nowhere" not found/)
        await own.close?.()
      })

      test('a pod that somebody deletes is leaving at once, and another one is there', async () => {
        const session = new Session({ provider, tickInterval: 100 })
        session.startup({ url, command: [...command, '--deaf'] })
        await waitForReady(session, url, 1)
        const [first] = session.cluster(url).instances
        const states = recordEvents(session, 'instance')
        await cluster.kubectl('delete', 'pod', podName(first?.id ?? ''), '--wait=false')
        await waitUntil(() =>
          states.some(({ state, instance }) => state === 'ready' && instance !== first?.id),
        )
        expect(states.find(({ instance }) => instance === first?.id)).toMatchObject({
          state: 'draining',
          reason: expect.stringMatching(/being deleted/),
        })
        await session.close({ force: true })
      })

      test('one that is evicted, and one whose node falls silent, are lost', async () => {
        const evicted = await serving(provider)
        const message = 'The node was low on resource: memory.'
        await patchStatus(evicted.id, { phase: 'Failed', reason: 'Evicted', message })
        expect(await evicted.running.exited).toEqual({
          reason: 'lost',
          detail: `its node ended it: Evicted: ${message}`,
        })
        const silent = await serving(provider)
        const conditions = [
          { type: 'Ready', status: 'False' },
          { type: 'ContainersReady', status: 'True' },
        ]
        await patchStatus(silent.id, { conditions })
        expect(await silent.running.exited).toMatchObject({
          reason: 'lost',
          detail: expect.stringMatching(/its node .* does not answer/),
        })
      })

      test('a watch whose version the API server has forgotten: all pods are listed again', async () => {
        const [one, other] = [await serving(provider), await serving(provider)]
        // The version that the watch goes on from is older than all that a new server remembers.
        for (let i = 0; i < 5; i++) {
          const body = { metadata: { generateName: 'churn-' } }
          await cluster.core.createNamespacedConfigMap({ namespace: 'default', body })
        }
        const restarting = cluster.restart()
        signal(one.id, 'SIGKILL')
        await restarting
        expect(await resolveWithin(20_000, one.running.exited)).toMatchObject({ reason: 'killed' })
        expect(await get(other.running.dispatcher, '/cwd')).toMatch(/^\//)
        signal(other.id, 'SIGKILL')
        expect(await resolveWithin(20_000, other.running.exited)).toMatchObject({
          reason: 'killed',
        })
      })

      test('output comes once, though its connection broke in between', async () => {
        const own = kubernetes(relayed)
        const script =
          'i=0; while [ $i -lt 60 ]; do echo "line $i"; i=$((i+1)); sleep 0.05; done; exec sleep 60'
        const spec = specOf({ command: ['sh', '-c', script] })
        await own.start(spec, { signal: unending })
        await waitUntil(() => spec.output.includes('line 10\n'))
        await cluster.cut()
        await sleep(500)
        await cluster.restore()
        await waitUntil(() => spec.output.includes('line 59\n'), 30_000)
        const all = Array.from({ length: 60 }, (_, i) => `line ${i}\n`)
        expect(spec.output).toBe(all.join(''))
        await own.close?.()
      })

      test('a template is laid over the pod, by names', async () => {
        const template = `
metadata: { labels: { team: blue }, annotations: { note: kept } }
spec:
  priority: null
  terminationGracePeriodSeconds: 7
  containers:
    - name: server
      env: [{ name: EXTRA, value: "1" }, { name: PORT, value: "99" }]
      securityContext: { runAsUser: 1000 }
    - { name: beside, image: other }
`
        const own = kubernetes({
          ...options,
          template,
          labels: { from: 'options' },
          env: { BASE: 'b' },
        })
        const { id } = await serving(own)
        const { metadata, spec } = await podOf(id)
        expect(metadata?.labels).toMatchObject({ team: 'blue', from: 'options' })
        expect(metadata?.annotations?.note).toBe('kept')
        expect(spec?.terminationGracePeriodSeconds).toBe(7)
        expect(spec?.containers.map(({ name }) => name)).toEqual(['server', 'beside'])
        const [first] = spec?.containers ?? []
        const env = Object.fromEntries(first?.env?.map(({ name, value }) => [name, value]) ?? [])
        expect(env).toMatchObject({ EXTRA: '1', BASE: 'b', PORT: '8080' })
        const security = { allowPrivilegeEscalation: false, runAsUser: 1000 }
        expect(first?.securityContext).toMatchObject(security)
        await own.close?.()
      })

      test('what a dead session left stays with `keep`, and goes with `sweep` or by the name of its owner', async () => {
        const leave = async (owner: string): Promise<string> => {
          const made = await cluster.core.createNamespacedPod({
            namespace: 'default',
            body: {
              metadata: {
                generateName: 'left-',
                labels: { 'manyhost/session': 'gone' },
                annotations: { 'manyhost/owner': owner },
              },
              spec: { containers: [{ name: 'server', image: 'x', command: ['sleep', '600'] }] },
            },
          })
          return made.metadata?.name ?? ''
        }
        const isThere = async (name: string): Promise<boolean> =>
          (await cluster.kubectl('get', 'pod', '--ignore-not-found', name)) !== ''
        const mine = await leave('shop')
        const strangers = await leave('another machine:1:1')
        for (const adopt of ['keep', 'sweep'] as const) {
          const own = kubernetes({ ...options, adopt, owner: 'shop' })
          await serving(own)
          await own.close?.()
          await waitUntil(async () => (await isThere(mine)) === (adopt === 'keep'))
          expect(await isThere(strangers)).toBe(true)
        }
        await cluster.kubectl('delete', 'pod', strangers, '--grace-period=1')
      })
    })

    scaleOf(() => cluster, { image: 'played', command })

    describe('kubernetes: the gateway itself', () => {
      const manifests = 'examples/deploy/kubernetes'

      async function configOf(name: string): Promise<string> {
        const { status } = await cluster.core.createNamespacedServiceAccountToken({
          name,
          namespace: 'default',
          body: { spec: { audiences: [], expirationSeconds: 3_600 } },
        })
        return cluster.configFor(status?.token ?? '')
      }

      test('its manifests are such as the API server takes', async () => {
        const crd = join(cluster.folder, 'crd.json')
        const names = {
          kind: 'ServiceMonitor',
          plural: 'servicemonitors',
          singular: 'servicemonitor',
        }
        const schema = {
          openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        }
        const group = 'monitoring.coreos.com'
        writeFileSync(
          crd,
          JSON.stringify({
            apiVersion: 'apiextensions.k8s.io/v1',
            kind: 'CustomResourceDefinition',
            metadata: { name: `servicemonitors.${group}` },
            spec: {
              group,
              names,
              scope: 'Namespaced',
              versions: [{ name: 'v1', served: true, storage: true, schema }],
            },
          }),
        )
        await cluster.kubectl('apply', '-f', crd)
        await cluster.kubectl(
          'wait',
          '--for=condition=established',
          'crd',
          `servicemonitors.${group}`,
        )
        const files = readdirSync(manifests).filter((name) => name.endsWith('.yaml'))
        expect(files.length).toBeGreaterThan(4)
        for (const name of files) {
          const said = await waitUntil(
            () => cluster.kubectl('apply', '--dry-run=server', '-f', join(manifests, name)),
            20_000,
          )
          expect(said).toContain('(server dry run)')
        }
      })

      test('its fleet file is right', async () => {
        const { data } = parse(readFileSync(join(manifests, 'config.yaml'), 'utf8'))
        const file = join(cluster.folder, 'fleet.yaml')
        writeFileSync(file, data['fleet.yaml'])
        const pod = { POD_NAME: 'manyhost-0', POD_UID: 'c0ffee' }
        const env = { ...process.env, MANYHOST_TOKEN: 'x'.repeat(32), ...pod }
        const run = promisify(execFile)
        await run(process.execPath, ['dist/src/cli/main.js', 'check', file], { env })
      })

      test('with its rights alone pods are run, and nothing else is', async () => {
        await cluster.kubectl('apply', '-f', join(manifests, 'rbac.yaml'))
        const { status } = await cluster.core.createNamespacedServiceAccountToken({
          name: 'manyhost',
          namespace: 'default',
          body: { spec: { audiences: [], expirationSeconds: 3_600 } },
        })
        const kubeconfig = cluster.configFor(status?.token ?? '')
        const own = kubernetes({ ...options, kubeconfig })
        const spec = specOf({
          startup: async (context) => {
            expect(await context.run('echo', 'ran')).toBe('ran\n')
            await context.spawn(...(command as [string, string]))
          },
        })
        const running = await waitUntil(() => own.start(spec, { signal: unending }), 20_000)
        await waitUntil(() => running.accepts?.(unending).then(() => true) ?? false)
        await waitUntil(() => spec.output.includes('listens\n'))
        await running.stop(5_000)
        await own.close?.()
        const can = (...what: string[]): Promise<string> =>
          cluster
            .kubectl('--kubeconfig', kubeconfig, 'auth', 'can-i', ...what)
            .then((text) => text.trim())
            .catch((error: { stdout: string }) => error.stdout.trim())
        expect(await can('list', 'pods')).toBe('yes')
        for (const what of ['list secrets', 'create deployments', 'list pods -n kube-system']) {
          expect(await can(...what.split(' '))).toBe('no')
        }
      })

      test('who may make pods and not watch them is told so', async () => {
        await cluster.kubectl('create', 'serviceaccount', 'blind')
        const rights = ['--verb=create,get,delete', '--resource=pods']
        await cluster.kubectl('create', 'role', 'blind', ...rights)
        const binding = ['rolebinding', 'blind', '--role=blind', '--serviceaccount=default:blind']
        await cluster.kubectl('create', ...binding)
        const own = kubernetes({ ...options, kubeconfig: await configOf('blind') })
        const spec = specOf({ command })
        const error = await rejectionOf(own.start(spec, { signal: unending }))
        expect(error.message).toMatch(/pods cannot be watched: .*403: pods is forbidden/)
        await waitUntil(async () => !(await isPod(spec.id)))
        await own.close?.()
      })
    })
  },
  'npm run test:engines -- kubernetes-build builds it once',
)
