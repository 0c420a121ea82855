/**
 * A whole cluster of one node, every program of it the real one: etcd, API server, controllers, scheduler, kube-proxy,
 * kubelet and Docker. It lives apart: of this machine it uses the kernel, a pair of addresses and a folder.
 */
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Docker from 'dockerode'
import { certificate } from '../fakes/certificate.ts'
import { isAlive, waitUntil } from '../providers/process-help.ts'
import { type Apart, openApart } from './apart.ts'
import { type ControlPlane, openControlPlane, PROGRAMS } from './control-plane.ts'
import { addManyhost, buildImage, buildPause } from './images.ts'

/** The last of what `kubernetes-full-build` builds. */
export const KUBELET = join(PROGRAMS, 'kubelet')

/** Has the name that the examples use, and manyhost in it. A tag that is not `latest` is not asked of a registry. */
export const IMAGE = 'node:22-slim'
/** The same one, as the example of the gateway calls it. */
const GATEWAY = { repo: 'my-fleet', tag: '1' }
const PAUSE = 'pause:1'
export const NODE = 'real'

export interface FullCluster extends Omit<ControlPlane, 'restart'> {
  readonly docker: Docker
  /** Of the kubelet, as this machine numbers it. */
  readonly kubelet: number
}

/** What the kubelet would set for the whole machine, and is shown as being set already. */
const SYSCTLS = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
}

/** Folders that its programs write to, whatever they are told. */
const SCRATCH = ['/run', '/var/log', '/var/lib', '/usr/libexec']

/** Without the capability CAP_SYS_RESOURCE no process can be made less likely to be killed for want of memory. */
const RUNC = `#!/bin/sh
previous=
for word; do
  [ "$previous" != --bundle ] || sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$word/config.json"
  previous=$word
done
exec runc "$@"
`

export async function openFullCluster(): Promise<FullCluster> {
  sweep()
  const folder = mkdtempSync(join(tmpdir(), `mh-full-${process.pid}-`))
  const file = (name: string): string => join(folder, name)
  const apart = await openApart(folder, prepare(folder))
  const close = async (): Promise<void> => {
    await apart.close()
    remove(process.pid, folder)
  }
  const { begin } = apart
  try {
    const services = `${apart.networks}.200.0/24`
    // The API server shows this one to the kubelet, which knows it as its own authority.
    const { cert, key } = certificate(folder, 'to-kubelet')
    const docker = beginDocker(folder, apart)
    const [plane] = await Promise.all([
      openControlPlane({
        folder,
        begin,
        address: apart.address,
        services,
        args: [`--kubelet-client-certificate=${cert}`, `--kubelet-client-key=${key}`],
      }),
      docker.then(async (api) => {
        await buildImage(api, folder, IMAGE, addManyhost)
        await api.getImage(IMAGE).tag({ repo: GATEWAY.repo, tag: GATEWAY.tag })
        await buildPause(api, folder, PAUSE)
      }),
    ])
    plane.controllers([
      `--service-account-private-key-file=${file('sa.key')}`,
      `--root-ca-file=${file('certs/apiserver.crt')}`,
      '--kube-api-qps=100',
      '--kube-api-burst=200',
    ])
    const kubeconfig = `--kubeconfig=${plane.kubeconfig}`
    begin(
      join(PROGRAMS, 'kube-scheduler'),
      [kubeconfig, '--leader-elect=false', '--bind-address=127.0.0.1', '--port=0'],
      'kube-scheduler',
    )
    begin(
      join(PROGRAMS, 'kube-proxy'),
      [
        kubeconfig,
        `--hostname-override=${NODE}`,
        '--proxy-mode=iptables',
        // A pod that reaches itself, or its neighbour, by a service: answers have to come back the same way.
        '--masquerade-all',
        '--conntrack-max-per-core=0',
        '--conntrack-tcp-timeout-established=0',
        '--conntrack-tcp-timeout-close-wait=0',
        '--oom-score-adj=0',
      ],
      'kube-proxy',
    )
    begin(
      KUBELET,
      [
        kubeconfig,
        `--hostname-override=${NODE}`,
        `--node-ip=${apart.address}`,
        `--address=${apart.address}`,
        `--root-dir=${file('kubelet')}`,
        `--cert-dir=${file('certs-kubelet')}`,
        `--client-ca-file=${cert}`,
        '--anonymous-auth=false',
        '--authorization-mode=AlwaysAllow',
        '--container-runtime=docker',
        `--docker-endpoint=unix://${file('docker.sock')}`,
        `--pod-infra-container-image=${PAUSE}`,
        '--hairpin-mode=none',
        '--cgroup-driver=cgroupfs',
        '--cgroups-per-qos=false',
        '--enforce-node-allocatable=',
        '--fail-swap-on=false',
        '--eviction-hard=memory.available<1Mi',
        '--image-gc-high-threshold=100',
        '--make-iptables-util-chains=false',
        '--oom-score-adj=0',
        '--read-only-port=0',
        '--healthz-port=0',
        '--resolv-conf=',
        '--serialize-image-pulls=false',
        '--kube-api-qps=100',
        '--kube-api-burst=200',
        '--event-qps=0',
      ],
      'kubelet',
    )
    await waitUntil(async () => {
      const { status } = await plane.core.readNode({ name: NODE })
      return (
        status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false
      )
    }, 90_000)
    // Made by a controller, and asked for by each pod.
    await waitUntil(async () => {
      const made = await plane.core.readNamespacedServiceAccount({
        name: 'default',
        namespace: 'default',
      })
      return (made.secrets?.length ?? 0) > 0
    }, 60_000)
    return {
      ...plane,
      docker: await docker,
      kubelet: pidOf(KUBELET, folder),
      close: async () => {
        await plane.cut()
        await close()
      },
    }
  } catch (error) {
    const kept = readdirSync(folder).filter((name) => name.endsWith('.log'))
    const logs = kept.map((name) => `== ${name}\n${readFileSync(file(name), 'utf8').slice(-3_000)}`)
    await close()
    throw new Error(`the cluster did not come up: ${error}\n${logs.join('\n')}`)
  }
}

function prepare(folder: string): string {
  const sysctls = Object.entries(SYSCTLS).map(([name, value]) => {
    const shown = join(folder, name.replaceAll('/', '.'))
    writeFileSync(shown, `${value}\n`)
    return `mount --bind ${shown} /proc/sys/${name}`
  })
  const scratch = SCRATCH.map((path) => `mount -t tmpfs tmpfs ${path}`)
  return [...sysctls, ...scratch].join('\n')
}

async function beginDocker(folder: string, { networks, begin }: Apart): Promise<Docker> {
  const file = (name: string): string => join(folder, name)
  writeFileSync(file('runc'), RUNC)
  chmodSync(file('runc'), 0o755)
  const places = ['data-root', 'exec-root', 'pidfile'].map((name) => `--${name}=${file(name)}`)
  begin(
    'dockerd',
    [
      `--host=unix://${file('docker.sock')}`,
      ...places,
      `--bip=${networks}.0.1/24`,
      `--cgroup-parent=/${groupOf(process.pid)}`,
      `--add-runtime=meek=${file('runc')}`,
      '--default-runtime=meek',
      '--iptables=false',
      '--ip6tables=false',
      '--ip-masq=false',
    ],
    'dockerd',
  )
  const api = new Docker({ socketPath: file('docker.sock') })
  await waitUntil(() => api.ping().then(() => true), 30_000)
  return api
}

/** Of one that was killed, the kernel took all back but its folder and its control groups. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(/^mh-full-(\d+)-/.exec(name)?.[1] ?? process.pid)
    if (!isAlive(pid)) remove(pid, join(tmpdir(), name))
  }
}

const groupOf = (pid: number): string => `manyhost-${pid}`

function remove(pid: number, folder: string): void {
  for (const hierarchy of readdirSync('/sys/fs/cgroup')) {
    removeGroup(join('/sys/fs/cgroup', hierarchy, groupOf(pid)))
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
}

/** Its processes are gone; what is left are empty folders, the innermost first. */
function removeGroup(path: string): void {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroup(join(path, entry.name))
  }
  rmdirSync(path)
}

function pidOf(program: string, folder: string): number {
  const found = readdirSync('/proc').find((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      return line.startsWith(program) && line.includes(folder)
    } catch {
      return false
    }
  })
  if (!found) throw new Error(`${program} does not run`)
  return Number(found)
}
