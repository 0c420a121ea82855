/** The conformance suite on an engine of containers. */
import { afterAll, beforeAll } from 'vitest'
import type { DockerOptions } from '../../providers/docker/index.ts'
import type { Provider } from '../../src/core/provider.ts'
import { conformance } from '../providers/conformance.ts'
import { type Daemon, type EngineRelay, IMAGE, relay, SERVER, startEngine } from './containers.ts'

export function containerConformance(
  engine: 'docker' | 'podman',
  make: (options: DockerOptions) => Provider,
): { daemon: () => Daemon } {
  let daemon: Daemon
  let before: EngineRelay
  const orphanOptions: { hosts: string[]; network: string } = { hosts: [], network: 'host' }

  beforeAll(async () => {
    daemon = await startEngine(engine)
    before = await relay(daemon.socket)
    orphanOptions.hosts.push(`unix://${daemon.socket}`)
  })
  afterAll(async () => {
    await before?.close()
    await daemon?.stop()
  })

  const container = (id: string) => daemon.api.getContainer(`manyhost-${id}`)

  conformance({
    name: engine,
    provider: () => make({ hosts: [`unix://${before.socket}`], network: 'host' }),
    base: { image: IMAGE },
    server: (...args) => [...SERVER, ...args],
    scratch: '/tmp',
    exists: (id) =>
      container(id)
        .inspect()
        .then(
          () => true,
          ({ statusCode }) => {
            if (statusCode === 404) return false
            throw new Error(`inspect says ${statusCode}`)
          },
        ),
    kill: async (id) => {
      const { State } = await container(id).inspect()
      process.kill(State.Pid, 'SIGKILL')
    },
    freeze: (id) => container(id).pause(),
    thaw: (id) => container(id).unpause(),
    labels: async (id) => (await container(id).inspect()).Config.Labels,
    resources: async (id) => {
      const { HostConfig } = await container(id).inspect()
      return { cpus: (HostConfig.NanoCpus ?? 0) / 1e9, memory: HostConfig.Memory ?? 0 }
    },
    unreachable: async () => {
      await before.cut()
      return () => before.restore()
    },
    elsewhere: { module: 'providers/docker/index.js', make: engine, options: orphanOptions },
  })
  return { daemon: () => daemon }
}
