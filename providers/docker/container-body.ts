/** The body of a request to `containers/create`. */

import { resolve } from 'node:path'
import type { ContainerCreateOptions, HostConfig } from 'dockerode'
import type { ListenOn, StartSpec } from '../../src/core/provider.ts'
import { containerCwd } from '../shared/container-cwd.ts'
import type { DockerSettings } from './options.ts'

export interface ContainerPlan {
  readonly spec: StartSpec
  readonly settings: DockerSettings
  readonly image: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly env: Readonly<Record<string, string>>
  readonly listenOn: ListenOn & { readonly port: number }
  /** Address of the engine's host to publish the port on; absent where the network is the host's. */
  readonly publish: string | undefined
}

/** The engine keeps the output in a log as well. The limit keeps that log from filling the disk. */
const LOG_CONFIG = { Type: 'json-file', Config: { 'max-size': '10m' } }

export function buildContainerBody(plan: ContainerPlan): ContainerCreateOptions {
  const { spec, settings, image, name, labels, env, listenOn, publish } = plan
  const { create } = settings
  const port = `${listenOn.port}/tcp`
  const { cpus, memory } = spec.resources ?? {}
  const cwd = containerCwd(spec, settings)
  const host: HostConfig = {
    NetworkMode: settings.network,
    LogConfig: LOG_CONFIG,
    // The cluster restarts instances itself, because it must know of each end.
    RestartPolicy: { Name: 'no' },
    SecurityOpt: ['no-new-privileges'],
    ...(settings.mounts && { Binds: settings.mounts.map(absoluteMount) }),
    ...(publish !== undefined && { PortBindings: { [port]: [{ HostIp: publish, HostPort: '' }] } }),
    ...(cpus !== undefined && { NanoCpus: Math.round(cpus * 1e9) }),
    // Without swap: an instance above its limit would not end, it would only be slow.
    ...(memory !== undefined && { Memory: Math.round(memory), MemorySwap: Math.round(memory) }),
  }
  return {
    name,
    Image: image,
    Env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
    ...commandOptions(spec, settings),
    ...(publish !== undefined && { ExposedPorts: { [port]: {} } }),
    ...(cwd && { WorkingDir: cwd }),
    ...(settings.user && { User: settings.user }),
    ...create,
    Labels: { ...spec.labels, ...(create.Labels as object | undefined), ...labels },
    HostConfig: { ...host, ...(create.HostConfig as HostConfig | undefined) },
  } as ContainerCreateOptions
}

function commandOptions(spec: StartSpec, settings: DockerSettings): ContainerCreateOptions {
  if (spec.startup) return { Entrypoint: [...settings.idle], Cmd: [], OpenStdin: true }
  if (!spec.command) return {}
  const [first = '', ...rest] = spec.command
  return settings.entrypoint === 'keep'
    ? { Cmd: [...spec.command] }
    : { Entrypoint: [first], Cmd: rest }
}

/** `./data:/data` names a folder of this machine; a name without a slash is a volume. */
function absoluteMount(mount: string): string {
  const [from = '', ...rest] = mount.split(':')
  return [from.startsWith('.') ? resolve(from) : from, ...rest].join(':')
}
