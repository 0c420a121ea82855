/** The API server of a cluster and its store, the real programs, wherever they are begun; and who may speak to it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node'
import { waitUntil } from '../providers/process-help.ts'
import { freePorts } from './ports.ts'
import { openRelay } from './relay.ts'

export const PROGRAMS =
  process.env.MANYHOST_KUBERNETES ?? join(homedir(), '.cache/manyhost-test/kubernetes-1.20.2')
export const API_SERVER = join(PROGRAMS, 'kube-apiserver')

const call = promisify(execFile)

/** Begins a program whose output goes to `<name>.log` of the folder. */
export type Begin = (command: string, args: readonly string[], name: string) => ChildProcess

export interface ControlPlane {
  readonly folder: string
  /** Of an administrator, straight to the API server, and by a relay that may be cut. */
  readonly kubeconfig: string
  readonly relayed: string
  readonly config: KubeConfig
  readonly core: CoreV1Api
  kubectl(...args: string[]): Promise<string>
  /** A file for who has that token. */
  configFor(token: string): string
  /** What else is begun, with the administrator's rights; it ends with the rest. */
  controllers(args: readonly string[]): void
  cut(): Promise<void>
  restore(): Promise<void>
  /** Ends the API server, does what is to be done meanwhile, and starts it again. */
  restart(): Promise<void>
  close(): Promise<void>
}

export interface Place {
  readonly folder: string
  readonly begin?: Begin
  /** Where the API server is reached, and the range of its services. */
  readonly address?: string
  readonly services?: string
  /** More of the API server's arguments. */
  readonly args?: readonly string[]
}

/** What is begun on this machine itself. */
function beginIn(folder: string): Begin {
  return (command, args, name) => {
    const log = openSync(join(folder, `${name}.log`), 'a')
    return spawn(command, args, { stdio: ['ignore', log, log] })
  }
}

export async function openControlPlane(place: Place): Promise<ControlPlane> {
  const { folder, begin = beginIn(folder), address = '127.0.0.1', args = [] } = place
  const file = (name: string): string => join(folder, name)
  const [client, peer, port] = (await freePorts(3)) as [number, number, number]
  const children: ChildProcess[] = []
  const started: Begin = (...what) => {
    const child = begin(...what)
    children.push(child)
    return child
  }
  started(
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
    started(
      API_SERVER,
      [
        `--etcd-servers=http://127.0.0.1:${client}`,
        `--bind-address=${address}`,
        `--advertise-address=${address}`,
        `--secure-port=${port}`,
        `--cert-dir=${file('certs')}`,
        `--service-cluster-ip-range=${place.services ?? '10.0.0.0/24'}`,
        `--token-auth-file=${file('tokens.csv')}`,
        '--authorization-mode=RBAC',
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-key-file=${file('sa.pub')}`,
        `--service-account-signing-key-file=${file('sa.key')}`,
        '--kubelet-preferred-address-types=InternalIP',
        '--shutdown-delay-duration=0s',
        ...args,
      ],
      'kube-apiserver',
    )
  let server = serve()
  const between = await openRelay({ host: address, port })
  const configure = (name: string, host: string, at: number, token: string): string => {
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
              server: `https://${host}:${at}`,
              'certificate-authority': file('certs/apiserver.crt'),
              // The relay has another address than the certificate.
              'tls-server-name': 'kubernetes',
            },
          },
        ],
      }),
    )
    return path
  }
  const kubeconfig = configure('admin', address, port, 'admin-token')
  const relayed = configure('relayed', '127.0.0.1', between.port, 'admin-token')
  const kubectl = async (...words: string[]): Promise<string> => {
    const all = ['--kubeconfig', kubeconfig, ...words]
    return (await call('kubectl', all, { maxBuffer: 16_777_216 })).stdout
  }
  let core: CoreV1Api
  const answers = async (): Promise<boolean> => {
    if (server.exitCode !== null) {
      throw new Error(readFileSync(file('kube-apiserver.log'), 'utf8').slice(-2_000))
    }
    const { metadata } = await core.readNamespace({ name: 'default' })
    return metadata?.name === 'default'
  }
  await waitUntil(() => existsSync(file('certs/apiserver.crt')), 60_000)
  const config = new KubeConfig()
  config.loadFromFile(kubeconfig)
  core = config.makeApiClient(CoreV1Api)
  await waitUntil(answers, 60_000)
  return {
    folder,
    kubeconfig,
    relayed,
    config,
    core,
    kubectl,
    configFor: (token) => configure(`token-${Math.random()}`, address, port, token),
    controllers: (more) => {
      const own = ['--leader-elect=false', '--bind-address=127.0.0.1', '--port=0']
      const certificates = `--cert-dir=${file('certs-controller')}`
      const all = [`--kubeconfig=${kubeconfig}`, ...own, '--secure-port=0', certificates, ...more]
      started(join(PROGRAMS, 'kube-controller-manager'), all, 'kube-controller-manager')
    },
    cut: between.cut,
    restore: between.restore,
    restart: async () => {
      await ended(server)
      server = serve()
      await waitUntil(answers, 60_000)
    },
    close: async () => {
      if (server.exitCode !== null) {
        const said = /^(?:panic|fatal error|F\d{4})[\s\S]{0,4000}/m.exec(
          readFileSync(file('kube-apiserver.log'), 'utf8'),
        )
        console.error(`the API server has ended by itself: ${said?.[0]}`)
      }
      await between.cut()
      for (const child of children.reverse()) await ended(child)
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
