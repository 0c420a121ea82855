/** The ready pods of a workload as instances, on whichever cluster. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { kubernetes } from '../../providers/kubernetes/index.ts'
import { Session } from '../../src/index.ts'
import { rejectionOf, waitForReady } from '../help.ts'
import { specOf, waitUntil } from '../providers/process-help.ts'
import type { ControlPlane } from './control-plane.ts'

const url = 'http://calc'

interface Workload {
  readonly image: string
  /** How `test/fakes/conformance-server.mjs` is run there. */
  readonly command: readonly string[]
}

export function scaleOf(
  cluster: () => Pick<ControlPlane, 'folder' | 'kubeconfig' | 'kubectl'>,
  { image, command }: Workload,
): void {
  const { signal: unending } = new AbortController()

  describe('kubernetes: scale', () => {
    for (const kind of ['deployment', 'statefulset'] as const) {
      test(`the ready pods of a ${kind} are the instances, and its size is the service's`, async () => {
        const name = `calc-${kind}`
        const labels = { app: name }
        const manifest = {
          apiVersion: 'apps/v1',
          kind: kind === 'deployment' ? 'Deployment' : 'StatefulSet',
          metadata: { name },
          spec: {
            replicas: 1,
            selector: { matchLabels: labels },
            ...(kind === 'statefulset' && { serviceName: name, podManagementPolicy: 'Parallel' }),
            template: {
              metadata: { labels },
              spec: {
                containers: [
                  {
                    name: 'calc',
                    image,
                    command,
                    env: [
                      { name: 'HOST', value: '0.0.0.0' },
                      { name: 'PORT', value: '8080' },
                    ],
                  },
                ],
              },
            },
          },
        }
        const file = join(cluster().folder, `${name}.json`)
        writeFileSync(file, JSON.stringify(manifest))
        await cluster().kubectl('apply', '-f', file)
        const replicas = async (): Promise<number> =>
          Number(await cluster().kubectl('get', kind, name, '-o', 'jsonpath={.spec.replicas}'))
        const session = new Session({
          provider: kubernetes({
            kubeconfig: cluster().kubeconfig,
            reach: 'pod-ip',
            scale: { kind, name },
          }),
          tickInterval: 100,
        })
        session.startup({ url, initSize: 3, concurrency: 2 })
        await waitForReady(session, url, 3)
        expect(await replicas()).toBe(3)
        const client = session.client()
        const answers = Array.from({ length: 30 }, async () =>
          (await client.get(`${url}/slow?20`)).text(),
        )
        expect(new Set(await Promise.all(answers))).toEqual(new Set(['slow']))
        session.setSize(url, 1)
        await waitUntil(async () => (await replicas()) === 1, 20_000)
        await waitUntil(
          () => session.cluster(url).instances.every(({ state }) => state === 'ready'),
          60_000,
        )
        expect(await (await client.get(`${url}/cwd`)).text()).toMatch(/^\//)
        // One that is taken away by somebody else is replaced, by the cluster and so by the session.
        await cluster().kubectl(
          'delete',
          'pod',
          '-l',
          `app=${name}`,
          '--grace-period=1',
          '--wait=false',
        )
        await waitUntil(async () => (await client.get(`${url}/cwd`)).status === 200, 30_000)
        await session.close()
        await waitUntil(async () => (await replicas()) === 1)
        await cluster().kubectl('delete', kind, name, '--grace-period=1')
        await cluster().kubectl('delete', 'pod', '-l', `app=${name}`, '--grace-period=1')
      })
    }

    test('a workload that is not there, and a service that brings its own command', async () => {
      const own = kubernetes({
        kubeconfig: cluster().kubeconfig,
        scale: { kind: 'deployment', name: 'none' },
      })
      const bare = specOf({})
      expect((await rejectionOf(own.start(bare, { signal: unending }))).message).toMatch(
        /deployments.apps "none" not found/,
      )
      const error = await rejectionOf(own.start(specOf({ command }), { signal: unending }))
      expect(error.code).toBe('MANYHOST_UNSUPPORTED')
      await own.close?.()
    })
  })
}
