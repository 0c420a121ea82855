/** Docker and Podman for tests: a daemon in a folder of its own, and a relay before it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Docker from 'dockerode'
import { pidsWith, waitUntil } from '../providers/process-help.ts'
import { buildImage } from './images.ts'
import { openRelay, type Relay } from './relay.ts'

export const IMAGE = 'manyhost-test:latest'

/** What `conformance-server.mjs` is in the image. */
export const SERVER = ['node', '/app/conformance-server.mjs']

export interface Daemon {
  /** Of the engine itself. */
  readonly socket: string
  readonly api: Docker
  readonly folder: string
  /** The engine's own command line, up to the name of a command of its own such as `run`. */
  readonly cli: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly pid: number
  /** Where ports that it publishes are reached. */
  readonly address: string
  stop(): Promise<void>
}

/** Podman's, which does without limits that may not be raised here. */
const CONTAINERS_CONF = `[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

/**
 * With `bridge`, Docker has networks of its own, in a network namespace that is reached by a pair of addresses.
 * @param more options of dockerd
 */
export async function startEngine(
  engine: 'docker' | 'podman',
  network: 'host' | 'bridge' = 'host',
  more: readonly string[] = [],
): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), `manyhost-${engine}-`))
  const socket = join(folder, 'engine.sock')
  const apart = network === 'bridge' ? openNamespace() : undefined
  const child =
    engine === 'docker'
      ? startDocker(folder, socket, apart?.name, more)
      : startPodman(folder, socket)
  let log = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      log = (log + chunk).slice(-20_000)
    })
  }
  const api = new Docker({ socketPath: socket })
  try {
    await waitUntil(() => api.ping().then(() => true), 30_000)
  } catch (error) {
    child.kill('SIGKILL')
    apart?.close()
    rmSync(folder, { recursive: true, force: true })
    throw new Error(`${engine} does not answer: ${error}\n${log}`)
  }
  const stop = async (): Promise<void> => {
    await stopEngine(api, child, folder)
    apart?.close()
  }
  try {
    await buildImage(api, folder, IMAGE)
  } catch (error) {
    // Nobody else knows of it yet.
    await stop()
    throw error
  }
  const cli =
    engine === 'docker' ? ['docker', '-H', `unix://${socket}`] : ['podman', ...podmanPlaces(folder)]
  const env = podmanEnv(folder)
  const address = apart?.address ?? '127.0.0.1'
  return { socket, api, folder, cli, env, pid: child.pid ?? 0, address, stop }
}

interface Namespace {
  readonly name: string
  readonly address: string
  close(): void
}

function openNamespace(): Namespace {
  const name = `mh${process.pid}`
  const net = `10.213.${process.pid % 250}`
  const ip = (...args: string[]) => execFileSync('ip', args)
  ip('netns', 'add', name)
  ip('link', 'add', `${name}a`, 'type', 'veth', 'peer', 'name', `${name}b`, 'netns', name)
  ip('addr', 'add', `${net}.1/30`, 'dev', `${name}a`)
  ip('link', 'set', `${name}a`, 'up')
  ip('-n', name, 'addr', 'add', `${net}.2/30`, 'dev', `${name}b`)
  ip('-n', name, 'link', 'set', `${name}b`, 'up')
  ip('-n', name, 'link', 'set', 'lo', 'up')
  return { name, address: `${net}.2`, close: () => void ip('netns', 'del', name) }
}

function startDocker(
  folder: string,
  socket: string,
  namespace: string | undefined,
  more: readonly string[],
): ChildProcess {
  const places = ['data-root', 'exec-root', 'pidfile'].map((name) => `--${name}=${folder}/${name}`)
  const bridge = namespace ? '--bip=10.200.0.1/24' : '--bridge=none'
  const quiet = ['--iptables=false', '--ip6tables=false', bridge, '--ip-forward=false']
  const apart = namespace ? ['nsenter', `--net=/run/netns/${namespace}`] : []
  const all = [...apart, 'dockerd', `--host=unix://${socket}`, ...places, ...quiet, ...more]
  return spawn(all[0] ?? '', all.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
}

function startPodman(folder: string, socket: string): ChildProcess {
  writeFileSync(join(folder, 'containers.conf'), CONTAINERS_CONF)
  const service = ['system', 'service', '--time=0', `unix://${socket}`]
  return spawn('podman', [...podmanPlaces(folder), ...service], {
    env: podmanEnv(folder),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

function podmanPlaces(folder: string): string[] {
  return ['--root', join(folder, 'root'), '--runroot', join(folder, 'run')]
}

function podmanEnv(folder: string): NodeJS.ProcessEnv {
  return { ...process.env, CONTAINERS_CONF: join(folder, 'containers.conf') }
}

async function stopEngine(api: Docker, child: ChildProcess, folder: string): Promise<void> {
  const left = await api.listContainers({ all: true })
  await Promise.all(left.map(({ Id }) => api.getContainer(Id).remove({ force: true })))
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
  // Podman leaves one process a command that was run in a container, for five minutes.
  for (const pid of pidsWith(`${folder}/`, 'cmdline')) {
    if (pid !== process.pid) process.kill(pid, 'SIGKILL')
  }
  unmount(folder)
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
}

/** What a daemon leaves mounted when it ends: namespaces of its network, and Podman its storage. */
function unmount(folder: string): void {
  const places = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((place) => place.startsWith(`${folder}/`))
  for (const place of places.reverse()) execFileSync('umount', ['--lazy', place])
}

export interface EngineRelay extends Relay {
  readonly socket: string
  close(): Promise<void>
}

/** A socket that stands for an engine which comes and goes, while its containers stay. */
export async function relay(target: string): Promise<EngineRelay> {
  const socket = `${target}.relay-${randomBytes(4).toString('hex')}`
  const { cut, restore } = await openRelay({ path: target }, socket)
  return { socket, cut, restore, close: cut }
}
