/** The kubernetes provider against a real API server, its store and its controllers; the node is played. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { kubernetes } from '../../providers/kubernetes/index.ts'
import { podName } from '../../providers/kubernetes/names.ts'
import { pidsOf } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { withEngine } from './engine.ts'
import { API_SERVER, type Cluster, openCluster } from './kubernetes.ts'

withEngine(API_SERVER, 'Kubernetes', () => {
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
    for (const pid of pidsOf(id)) process.kill(pid, name)
  }

  conformance({
    name: 'kubernetes',
    provider: () => kubernetes(relayed),
    server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
    scratch,
    exists: async (id) => pidsOf(id).length > 0 || (await isPod(id)),
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
})

if (!existsSync(API_SERVER))
  console.error('!! NOT RUN: the kubernetes provider; see test/engines/kubernetes-build.sh')
