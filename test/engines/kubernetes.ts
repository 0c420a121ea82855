/** A cluster of which the API server, its store and the controllers are real, and the node is played. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node'
import { Kubelet } from '../fakes/kubelet.ts'
import { until } from '../providers/process-help.ts'

export const PROGRAMS =
  process.env.MANYHOST_KUBERNETES ?? join(homedir(), '.cache/manyhost-test/kubernetes-1.20.2')
export const API_SERVER = join(PROGRAMS, 'kube-apiserver')

const call = promisify(execFile)

export interface Cluster {
  readonly folder: string
  /** Of an administrator, straight to the API server, and by a relay that may be cut. */
  readonly kubeconfig: string
  readonly relayed: string
  readonly core: CoreV1Api
  readonly kubelet: Kubelet
  kubectl(...args: string[]): Promise<string>
  /** A file for who has that token. */
  configFor(token: string): string
  cut(): Promise<void>
  restore(): Promise<void>
  /** Ends the API server, does what is to be done meanwhile, and starts it again. */
  restart(): Promise<void>
  close(): Promise<void>
}

export async function openCluster(): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), 'mh-kubernetes-'))
  const file = (name: string): string => join(folder, name)
  const [client, peer, port] = (await freePorts(3)) as [number, number, number]
  const children: ChildProcess[] = []
  const begin = (command: string, args: readonly string[], name: string): ChildProcess => {
    const log = openSync(file(`${name}.log`), 'a')
    const child = spawn(command, args, { stdio: ['ignore', log, log] })
    children.push(child)
    return child
  }
  begin(
    'etcd',
    [
      `--data-dir=${file('etcd')}`,
      `--listen-client-urls=http://127.0.0.1:${client}`,
      `--advertise-client-urls=http://127.0.0.1:${client}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
      // What a test writes need not outlive the machine.
      '--unsafe-no-fsync',
    ],
    'etcd',
  )
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  writeFileSync(file('sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }))
  writeFileSync(file('sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
  writeFileSync(file('tokens.csv'), 'admin-token,admin,1,"system:masters"\n')
  mkdirSync(file('certs'))
  const serve = (): ChildProcess =>
    begin(
      API_SERVER,
      [
        `--etcd-servers=http://127.0.0.1:${client}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        `--secure-port=${port}`,
        `--cert-dir=${file('certs')}`,
        '--service-cluster-ip-range=10.0.0.0/24',
        `--token-auth-file=${file('tokens.csv')}`,
        '--authorization-mode=RBAC',
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-key-file=${file('sa.pub')}`,
        `--service-account-signing-key-file=${file('sa.key')}`,
        // Nobody here makes the accounts that it would ask for.
        '--disable-admission-plugins=ServiceAccount',
        '--kubelet-preferred-address-types=InternalIP',
        '--shutdown-delay-duration=0s',
      ],
      'kube-apiserver',
    )
  let server = serve()
  const between = await tcpRelay(port)
  const configure = (name: string, at: number, token: string): string => {
    const path = file(`${name}.yaml`)
    writeFileSync(
      path,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'test',
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
        users: [{ name: 'test', user: { token } }],
        clusters: [
          {
            name: 'test',
            cluster: {
              server: `https://127.0.0.1:${at}`,
              'certificate-authority': file('certs/apiserver.crt'),
            },
          },
        ],
      }),
    )
    return path
  }
  const kubeconfig = configure('admin', port, 'admin-token')
  const relayed = configure('relayed', between.port, 'admin-token')
  const kubectl = async (...args: string[]): Promise<string> =>
    (await call('kubectl', ['--kubeconfig', kubeconfig, ...args], { maxBuffer: 16_777_216 })).stdout
  let core: CoreV1Api
  const answers = async (): Promise<boolean> => {
    if (server.exitCode !== null) {
      throw new Error(readFileSync(file('kube-apiserver.log'), 'utf8').slice(-2_000))
    }
    const { metadata } = await core.readNamespace({ name: 'default' })
    return metadata?.name === 'default'
  }
  await until(() => existsSync(file('certs/apiserver.crt')), 60_000)
  const config = new KubeConfig()
  config.loadFromFile(kubeconfig)
  core = config.makeApiClient(CoreV1Api)
  await until(answers, 60_000)
  begin(
    join(PROGRAMS, 'kube-controller-manager'),
    [
      `--kubeconfig=${kubeconfig}`,
      // Those alone that the tests are about: the node's life is played.
      '--controllers=deployment,replicaset,statefulset,endpoint,garbagecollector',
      '--leader-elect=false',
      '--bind-address=127.0.0.1',
      `--cert-dir=${file('certs-controller')}`,
      '--port=0',
      '--secure-port=0',
    ],
    'kube-controller-manager',
  )
  const kubelet = new Kubelet(config)
  await kubelet.open()
  return {
    folder,
    kubeconfig,
    relayed,
    kubelet,
    kubectl,
    core,
    configFor: (token) => configure(`token-${Math.random()}`, port, token),
    cut: between.cut,
    restore: between.restore,
    restart: async () => {
      await ended(server)
      server = serve()
      await until(answers, 60_000)
    },
    close: async () => {
      if (server.exitCode !== null) {
        const said = /^(?:panic|fatal error|F\d{4})[\s\S]{0,4000}/m.exec(
          readFileSync(file('kube-apiserver.log'), 'utf8'),
        )
        console.error(`the API server has ended by itself: ${said?.[0]}`)
      }
      await kubelet.close()
      await between.cut()
      for (const child of children.reverse()) await ended(child)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function tcpRelay(
  target: number,
): Promise<{ port: number; cut(): Promise<void>; restore(): Promise<void> }> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true })
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one)
      one.pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    cut: async () => {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const one of open) one.destroy()
      await closed
    },
    restore: async () => {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await exited
  clearTimeout(timer)
}

/** Free ones at the time; below those that the kernel hands out. */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = 10_000 + Math.floor(Math.random() * 2_000)
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer().once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (free && !ports.includes(port)) ports.push(port)
  }
  return ports
}
