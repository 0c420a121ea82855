/**
 * A kubelet that is played: it says to a real API server what a node would, and runs each pod's command as a process of
 * this machine. What containers are by the kernel it has not: no image, no file system, no limits, no network of a
 * pod's own. A pod's address is one of the loopback network, and its `HOST` is set to that, so that all may listen on
 * one port.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  CoreV1Api,
  type KubeConfig,
  type V1ContainerState,
  type V1Pod,
  Watch,
} from '@kubernetes/client-node'
import { type WebSocket, WebSocketServer } from 'ws'
import { instanceFolder } from '../../providers/kubernetes/startup-scripts.ts'
import { pidsWith, waitUntil } from '../providers/process-help.ts'
import { certificate } from './certificate.ts'

interface Line {
  readonly time: string
  readonly text: string
}

/** One pod's only container: of the others nothing is played. */
interface Container {
  pod: V1Pod
  readonly name: string
  readonly key: string
  readonly ip: string
  readonly env: Record<string, string>
  readonly file: string
  readonly lines: Line[]
  read: number
  child: ChildProcess | undefined
  state: V1ContainerState
  outOfMemory: boolean
  doom: NodeJS.Timeout | undefined
  isOver: boolean
}

export class Kubelet {
  readonly node = `played-${process.pid}`
  readonly #core: CoreV1Api
  readonly #config: KubeConfig
  readonly #folder = mkdtempSync(join(tmpdir(), 'mh-kubelet-'))
  readonly #containers = new Map<string, Container>()
  readonly #sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => (offered.has('v4.channel.k8s.io') ? 'v4.channel.k8s.io' : false),
  })
  readonly #server = createServer(
    (() => {
      const { cert, key } = certificate(this.#folder, 'kubelet')
      return { cert: readFileSync(cert), key: readFileSync(key) }
    })(),
    (request, response) => void this.#logs(request, response),
  )
  #nextIp = 1 + Math.floor(Math.random() * 60_000)
  #isClosed = false
  #watch: AbortController | undefined
  #serving: Promise<unknown> = Promise.resolve()

  constructor(config: KubeConfig) {
    this.#config = config
    this.#core = config.makeApiClient(CoreV1Api)
    this.#server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => {})
      this.#sockets.handleUpgrade(request, socket, head, (ws) => {
        ws.on('error', () => {})
        this.#upgraded(ws, new URL(request.url ?? '', 'https://node'))
      })
    })
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    const { port } = this.#server.address() as AddressInfo
    const { node } = this
    await this.#core.createNode({ body: { metadata: { name: node } } })
    const status = {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
      conditions: [{ type: 'Ready', status: 'True' }],
    }
    await this.#core.patchNodeStatus({
      name: node,
      body: [{ op: 'replace', path: '/status', value: status }],
    })
    this.#serving = this.#serve()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#watch?.abort()
    for (const one of this.#containers.values()) this.#kill(one, 'SIGKILL')
    this.#server.close()
    this.#server.closeAllConnections()
    for (const ws of this.#sockets.clients) ws.terminate()
    await this.#serving
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** The next end of its process is one for want of memory. */
  outOfMemory(pod: string): void {
    for (const one of this.#containers.values()) {
      if (one.pod.metadata?.name !== pod) continue
      one.outOfMemory = true
      this.#kill(one, 'SIGKILL')
    }
  }

  /** Lists and watches, again and again: also the API server of a test may go away. */
  async #serve(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const { items, metadata } = await this.#core.listPodForAllNamespaces()
        const there = new Set(items.map((pod) => pod.metadata?.uid))
        for (const pod of items) this.#see(pod)
        for (const one of this.#containers.values()) {
          if (!there.has(one.pod.metadata?.uid)) this.#forget(one)
        }
        const query = { resourceVersion: metadata?.resourceVersion ?? '' }
        await new Promise<void>((resolve) => {
          new Watch(this.#config)
            .watch(
              '/api/v1/pods',
              query,
              (type, pod: V1Pod) => {
                const known = this.#containers.get(pod.metadata?.uid ?? '')
                if (type === 'DELETED' && known) this.#forget(known)
                else if (type === 'ADDED' || type === 'MODIFIED') this.#see(pod)
              },
              () => resolve(),
            )
            .then((watch) => {
              this.#watch = watch
              if (this.#isClosed) watch.abort()
            }, resolve)
        })
      } catch {
        // Asked again below.
      }
      if (!this.#isClosed) await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  #see(pod: V1Pod): void {
    if (this.#isClosed) return
    const { uid = '', name = '', namespace = '', deletionTimestamp } = pod.metadata ?? {}
    const known = this.#containers.get(uid)
    if (known) known.pod = pod
    if (deletionTimestamp) {
      if (known) this.#end(known)
      else if (pod.spec?.nodeName === this.node) void this.#delete(pod)
    } else if (!pod.spec?.nodeName) {
      // It plays the scheduler as well.
      const selector = pod.spec?.nodeSelector
      if (selector && Object.keys(selector).length > 0) return
      const body = { metadata: { name }, target: { kind: 'Node', name: this.node } }
      this.#core.createNamespacedPodBinding({ name, namespace, body }).catch(() => {})
    } else if (!known && pod.spec.nodeName === this.node && pod.status?.phase === 'Pending') {
      this.#start(pod)
    }
  }

  #start(pod: V1Pod): void {
    const { uid = '' } = pod.metadata ?? {}
    const given = pod.spec?.containers[0]
    const n = this.#nextIp++
    const ip = `127.${20 + ((n >> 16) % 200)}.${(n >> 8) & 255}.${(n % 254) + 1}`
    const env: Record<string, string> = { PATH: process.env.PATH ?? '', HOME: this.#folder }
    for (const { name, value } of given?.env ?? []) env[name] = expand(value ?? '', env)
    if (env.HOST) env.HOST = ip
    const words = [...(given?.command ?? []), ...(given?.args ?? [])].map((one) => expand(one, env))
    const file = join(this.#folder, `${uid}.log`)
    const one: Container = {
      pod,
      name: given?.name ?? '',
      key: `POD_UID=${uid}`,
      ip,
      env: { ...env, POD_UID: uid },
      file,
      lines: [],
      read: 0,
      child: undefined,
      state: { waiting: { reason: 'ContainerCreating' } },
      outOfMemory: false,
      doom: undefined,
      isOver: false,
    }
    this.#containers.set(uid, one)
    const [command = '', ...args] = words
    if (given?.image?.startsWith('no-such-image')) {
      const waiting = {
        reason: 'ImagePullBackOff',
        message: `Back-off pulling image "${given.image}"`,
      }
      one.state = { waiting }
      return void this.#tell(one)
    }
    if (given?.workingDir && !existsSync(given.workingDir))
      return this.#failed(one, 'no such folder')
    const log = openSync(file, 'a')
    const child = spawn(command, args, {
      env: one.env,
      ...(given?.workingDir && { cwd: given.workingDir }),
      stdio: ['ignore', log, log],
      detached: true,
    })
    closeSync(log)
    child.once('error', (error) => this.#failed(one, error.message))
    child.once('spawn', () => {
      one.child = child
      one.state = { running: { startedAt: new Date() } }
      void this.#tell(one)
      if (one.pod.metadata?.deletionTimestamp) this.#end(one)
    })
    child.once('exit', (code, signal) => {
      const number = signal ? constants.signals[signal] : 0
      this.#over(one, code ?? 128 + number)
    })
  }

  #failed(one: Container, message: string): void {
    one.state = { terminated: { exitCode: 128, reason: 'StartError', message } }
    one.isOver = true
    void this.#tell(one).then(() => {
      if (one.pod.metadata?.deletionTimestamp) void this.#delete(one.pod)
    })
  }

  /** With the first process of a pod all others end. */
  #over(one: Container, exitCode: number): void {
    this.#kill(one, 'SIGKILL')
    const reason = one.outOfMemory ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error'
    one.state = { terminated: { exitCode, reason } }
    one.isOver = true
    clearTimeout(one.doom)
    void this.#tell(one).then(() => {
      if (one.pod.metadata?.deletionTimestamp) void this.#delete(one.pod)
    })
  }

  #end(one: Container): void {
    if (one.isOver) return void this.#delete(one.pod)
    if (!one.child) {
      if (one.state.waiting?.reason !== 'ContainerCreating') void this.#delete(one.pod)
      return
    }
    if (one.doom === undefined) one.child.kill('SIGTERM')
    clearTimeout(one.doom)
    const seconds = one.pod.metadata?.deletionGracePeriodSeconds ?? 30
    one.doom = setTimeout(() => this.#kill(one, 'SIGKILL'), 1_000 * seconds)
  }

  #forget(one: Container): void {
    this.#containers.delete(one.pod.metadata?.uid ?? '')
    clearTimeout(one.doom)
    this.#kill(one, 'SIGKILL')
  }

  #kill(one: Container, signal: NodeJS.Signals): void {
    // A pod's file system ends with it; of the machine's, this is what was written.
    if (signal === 'SIGKILL') {
      const home = instanceFolder(one.env.MANYHOST_INSTANCE ?? one.key)
      rmSync(home, { recursive: true, force: true })
    }
    for (const pid of pidsWith(one.key)) {
      try {
        process.kill(pid, signal)
      } catch {
        // It has ended.
      }
    }
  }

  async #delete(pod: V1Pod): Promise<void> {
    const { name = '', namespace = '', uid = '' } = pod.metadata ?? {}
    const body = { gracePeriodSeconds: 0, preconditions: { uid } }
    await this.#core.deleteNamespacedPod({ name, namespace, body }).catch(() => {})
  }

  async #tell(one: Container): Promise<void> {
    const { name = '', namespace = '' } = one.pod.metadata ?? {}
    const isUp = one.state.running !== undefined
    const code = one.state.terminated?.exitCode
    const phase =
      code === undefined ? (isUp ? 'Running' : 'Pending') : code === 0 ? 'Succeeded' : 'Failed'
    const condition = (type: string, is = true, reason = '') => ({
      type,
      status: is ? 'True' : 'False',
      ...(reason && { reason }),
    })
    const why = isUp ? '' : 'ContainersNotReady'
    const image = one.pod.spec?.containers[0]?.image ?? ''
    const status = {
      phase,
      hostIP: '127.0.0.1',
      podIP: one.ip,
      conditions: [
        condition('PodScheduled'),
        condition('Initialized'),
        condition('Ready', isUp, why),
        condition('ContainersReady', isUp, why),
      ],
      containerStatuses: [
        { name: one.name, image, imageID: '', ready: isUp, restartCount: 0, state: one.state },
      ],
    }
    const body = [{ op: 'replace', path: '/status', value: status }]
    // Until the API server has taken it, or knows no such pod.
    await waitUntil(
      () =>
        this.#isClosed ||
        this.#core.patchNamespacedPodStatus({ name, namespace, body }).then(
          () => true,
          ({ code }) => code === 404,
        ),
      60_000,
    ).catch(() => {})
  }

  #find(namespace: string, pod: string): Container | undefined {
    return [...this.#containers.values()].find(
      ({ pod: { metadata } }) => metadata?.namespace === namespace && metadata.name === pod,
    )
  }

  /** What was written to the file since, each line with the time that it was found. */
  async #readLines(one: Container): Promise<void> {
    const text = await readFile(one.file, 'utf8').catch(() => '')
    const isLast = one.isOver
    const end = isLast ? text.length : text.lastIndexOf('\n') + 1
    if (end <= one.read) return
    const part = text.slice(one.read, end)
    one.read = end
    const time = new Date().toISOString().replace('Z', '000000Z')
    for (const line of part.replace(/\n$/, '').split('\n')) one.lines.push({ time, text: line })
  }

  async #logs(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'https://node')
    const [, what, namespace = '', pod = ''] = url.pathname.split('/')
    const one = this.#find(namespace, pod)
    if (what !== 'containerLogs' || !one) return void response.writeHead(404).end('no such pod')
    const follow = url.searchParams.get('follow') === 'true'
    const since = url.searchParams.get('sinceTime') ?? ''
    let at = 0
    response.on('error', () => {})
    response.writeHead(200, { 'content-type': 'text/plain' }).flushHeaders()
    while (!response.destroyed && !this.#isClosed) {
      const isLast = one.isOver || !follow
      await this.#readLines(one)
      for (; at < one.lines.length; at++) {
        const { time, text } = one.lines[at] as Line
        if (Date.parse(time) >= (Date.parse(since) || 0)) response.write(`${time} ${text}\n`)
      }
      if (isLast) break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    response.end()
  }

  #upgraded(ws: WebSocket, { pathname, searchParams }: URL): void {
    const [, what, namespace = '', pod = ''] = pathname.split('/')
    const one = this.#find(namespace, pod)
    if (!one?.child || one.isOver) return ws.close(1011, 'no such pod runs')
    if (what === 'exec') exec(ws, one, searchParams.getAll('command'))
    else if (what === 'portForward') portForward(ws, one.ip, Number(searchParams.get('port')))
    else ws.close(1011, `no such thing as ${what}`)
  }
}

function exec(ws: WebSocket, one: Container, [command = '', ...args]: readonly string[]): void {
  const child = spawn(command, args, { env: one.env, detached: true })
  const send = (channel: number, data: Buffer): void => {
    if (ws.readyState === ws.OPEN) ws.send(Buffer.concat([Buffer.of(channel), data]))
  }
  child.stdin.on('error', () => {})
  child.stdout.on('data', (data) => send(1, data))
  child.stderr.on('data', (data) => send(2, data))
  ws.on('message', (data: Buffer) => {
    if (data[0] === 0) child.stdin.write(data.subarray(1))
  })
  ws.on('close', () => child.stdin.end())
  const finish = (status: object): void => {
    send(3, Buffer.from(JSON.stringify(status)))
    ws.close()
  }
  child.once('error', ({ message }) => finish({ status: 'Failure', message }))
  child.once('close', (code, signal) => {
    const exit = code ?? 128 + (signal ? constants.signals[signal] : 0)
    const causes = [{ reason: 'ExitCode', message: String(exit) }]
    finish(
      exit === 0
        ? { status: 'Success' }
        : { status: 'Failure', reason: 'NonZeroExitCode', details: { causes } },
    )
  })
}

function portForward(ws: WebSocket, host: string, port: number): void {
  const number = Buffer.alloc(2)
  number.writeUInt16LE(port)
  const send = (channel: number, data: Buffer): void => {
    if (ws.readyState === ws.OPEN) ws.send(Buffer.concat([Buffer.of(channel), data]))
  }
  send(0, number)
  send(1, number)
  const socket = connect(port, host)
  socket.on('data', (data) => send(0, data))
  socket.on('error', ({ message }) => send(1, Buffer.from(`an error occurred: ${message}`)))
  socket.on('close', () => ws.close())
  ws.on('message', (data: Buffer) => {
    if (data[0] === 0) socket.write(data.subarray(1))
  })
  ws.on('close', () => socket.destroy())
}

/** `$(NAME)` is the value of NAME where there is one, and `$$` is `$`. */
function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\((\w+)\)/g, (found, name) =>
    found === '$$' ? '$' : (env[name] ?? found),
  )
}
