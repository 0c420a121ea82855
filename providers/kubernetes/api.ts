/** The API server of one cluster: its calls are bounded in time, and made again while it cannot be reached. */
import { once } from 'node:events'
import { type IncomingMessage, request as plainRequest } from 'node:http'
import { type RequestOptions, request as secureRequest } from 'node:https'
import type {
  AppsV1Api,
  ConfigurationOptions,
  CoreV1Api,
  KubeConfig,
  ObservableMiddleware,
} from '@kubernetes/client-node'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { resolveWithin } from '../../src/core/time.ts'
import {
  createTimeoutError,
  EngineCaller,
  type EngineCallOptions,
  isConnectionError,
} from '../shared/engine-caller.ts'
import { openChannels, type PodChannels } from './channels.ts'
import type { KubernetesSettings } from './options.ts'

/** Longest time of one call, in ms. */
const CALL_TIMEOUT = 30_000
/** Longest part of a response that an error repeats, in characters. */
const MAX_ERROR_TEXT = 1_000

/** Statuses of an API server, or of a proxy before it, that cannot serve at the moment. */
const BUSY_STATUSES = new Set([429, 502, 503, 504])

type KubernetesClientModule = typeof import('@kubernetes/client-node')

interface OpenedKubernetesApi {
  readonly client: KubernetesClientModule
  readonly config: KubeConfig
  readonly core: CoreV1Api
  readonly apps: AppsV1Api
  readonly server: string
}

/** The clients for a call. `options` must be the last argument of each call. */
export interface KubernetesCalls {
  readonly core: CoreV1Api
  readonly apps: AppsV1Api
  readonly client: KubernetesClientModule
  readonly options: ConfigurationOptions
}

export class KubernetesApi {
  readonly #settings: KubernetesSettings
  readonly #caller = new EngineCaller({
    timeoutMs: CALL_TIMEOUT,
    isUnreachableError: isKubernetesUnreachable,
    createUnreachableError: (what, cause) => createUnreachableError(what, this.#server, cause),
  })
  #opened: Promise<OpenedKubernetesApi> | undefined
  #server = ''

  constructor(settings: KubernetesSettings) {
    this.#settings = settings
  }

  /** Whether the last call did not reach the server. */
  get isUnreachable(): boolean {
    return this.#caller.isUnreachable
  }

  /** @throws ManyhostError MANYHOST_UNSUPPORTED without the client, MANYHOST_START_FAILED without a cluster */
  #open(): Promise<OpenedKubernetesApi> {
    this.#opened ??= this.#load().catch((error) => {
      // A kubeconfig that does not exist yet may exist at the next start.
      this.#opened = undefined
      throw error
    })
    return this.#opened
  }

  async #load(): Promise<OpenedKubernetesApi> {
    const client = await loadKubernetesClient()
    const { kubeconfig, context } = this.#settings
    try {
      const config = new client.KubeConfig()
      if (kubeconfig === undefined) config.loadFromDefault()
      else config.loadFromFile(kubeconfig)
      if (context !== undefined) config.setCurrentContext(context)
      const cluster = config.getCurrentCluster()
      if (!cluster) {
        throw new Error(
          `the kubeconfig has no cluster for the context '${config.getCurrentContext()}'; set kubeconfig or context`,
        )
      }
      const core = config.makeApiClient(client.CoreV1Api)
      const apps = config.makeApiClient(client.AppsV1Api)
      this.#server = cluster.server
      return { client, config, core, apps, server: cluster.server }
    } catch (cause) {
      const text = `the cluster cannot be found: ${describeError(cause)}`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
    }
  }

  /** The namespace of the options, of the context, or of the service account. */
  async namespace(): Promise<string> {
    const { config } = await this.#open()
    const own = config.getContextObject(config.getCurrentContext())?.namespace
    return this.#settings.namespace ?? (own?.trim() || 'default')
  }

  /**
   * @throws ManyhostError MANYHOST_START_FAILED when the API server cannot be reached, and when it refuses the call;
   * `kubernetesStatusOf` gives the status of a refusal
   */
  async call<T>(
    what: string,
    action: (calls: KubernetesCalls) => Promise<T>,
    options: EngineCallOptions = {},
  ): Promise<T> {
    const { core, apps, client } = await this.#open()
    const attempt = (cut: AbortSignal): Promise<T> =>
      action({ core, apps, client, options: abortedBy(client, cut) })
    try {
      return await this.#caller.call(what, attempt, options)
    } catch (error) {
      throw error instanceof ManyhostError ? error : createRefusedError(what, asError(error))
    }
  }

  /** Opens a response that is read as it comes, without an end. Not tried again. */
  async stream(
    path: string,
    query: Readonly<Record<string, string>>,
    timeout: number,
  ): Promise<IncomingMessage> {
    const { config, server } = await this.#open()
    const url = new URL(`${server.replace(/\/$/, '')}${path}`)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    const options: RequestOptions = {}
    await config.applyToHTTPSOptions(options)
    const request = (url.protocol === 'https:' ? secureRequest : plainRequest)(url, options)
    request.end()
    const answer = once(request, 'response').then(([response]) => response as IncomingMessage)
    // When there is a response, its errors count; the request may emit the same error.
    request.on('error', () => {})
    const response = await resolveWithin(timeout, answer).catch((error) => {
      throw createUnreachableError('read', server, asError(error))
    })
    if (!response) {
      request.destroy()
      answer.then((late) => late.destroy()).catch(() => undefined)
      throw createUnreachableError('read', server, createTimeoutError('reading', timeout))
    }
    response.on('error', () => {})
    if (response.statusCode === 200) return response
    let body = ''
    response.setEncoding('utf8')
    for await (const chunk of response) if (body.length < MAX_ERROR_TEXT) body += chunk
    throw createRefusedError(
      'read',
      Object.assign(new Error(body), { code: response.statusCode, body }),
    )
  }

  /** Opens a connection of several channels into a pod. Not tried again. */
  async openChannels(path: string, timeout = CALL_TIMEOUT): Promise<PodChannels> {
    const { client, config, server } = await this.#open()
    const opening = openChannels(new client.Exec(config).handler, path)
    try {
      const opened = await resolveWithin(timeout, opening)
      if (opened) return opened
    } catch (error) {
      throw createUnreachableError('connect to a pod', server, asError(error))
    }
    opening.then((made) => made.destroy()).catch(() => undefined)
    throw createUnreachableError(
      'connect to a pod',
      server,
      createTimeoutError('connecting', timeout),
    )
  }

  close(): void {
    this.#caller.close()
  }
}

export function createClosedError(): ManyhostError {
  return new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider kubernetes is closed')
}

/** The status of the API server's response, for an error of `call`; undefined if there was no response. */
export function kubernetesStatusOf(error: unknown): number | undefined {
  if (error instanceof ManyhostError) return kubernetesStatusOf(error.cause)
  const code = (error as { code?: unknown } | undefined)?.code
  return typeof code === 'number' ? code : undefined
}

export function isKubernetesUnreachable(error: Error): boolean {
  if (error instanceof ManyhostError)
    return error.cause instanceof Error && isKubernetesUnreachable(error.cause)
  const { code, body } = error as { code?: string | number; body?: unknown }
  if (typeof code === 'number') {
    // 500 with the name of its store: etcd changes its leader, or is slow.
    return (
      BUSY_STATUSES.has(code) || (code === 500 && JSON.stringify(body ?? '').includes('etcdserver'))
    )
  }
  return isConnectionError(error) || code === 'ERR_STREAM_PREMATURE_CLOSE'
}

function createUnreachableError(what: string, server: string, cause: Error): ManyhostError {
  const text = `cannot ${what}: no answer from ${server}: ${describeError(cause)}`
  return new ManyhostError('MANYHOST_START_FAILED', text, { cause })
}

/** The message of the client holds all headers, so the message of the API server is used. */
function createRefusedError(what: string, cause: Error): ManyhostError {
  const { code, body } = cause as { code?: unknown; body?: unknown }
  const reason =
    typeof code === 'number' ? `${code}: ${readStatusMessage(body)}` : describeError(cause)
  return new ManyhostError('MANYHOST_START_FAILED', `cannot ${what}: ${reason}`, { cause })
}

function readStatusMessage(body: unknown): string {
  let status = body
  try {
    if (typeof body === 'string') status = JSON.parse(body)
  } catch {
    // A proxy before the API server has answered with a text.
  }
  const { message } = (status ?? {}) as { message?: unknown }
  return String(message ?? (typeof body === 'string' ? body : '')).slice(0, MAX_ERROR_TEXT)
}

function abortedBy(
  { Observable }: KubernetesClientModule,
  signal: AbortSignal,
): ConfigurationOptions {
  const cut: ObservableMiddleware = {
    pre: (context) => {
      // The client takes any signal, but its types say less.
      context.setSignal(signal as never)
      return new Observable(Promise.resolve(context))
    },
    post: (context) => new Observable(Promise.resolve(context)),
  }
  return { middleware: [cut], middlewareMergeStrategy: 'append' }
}

async function loadKubernetesClient(): Promise<KubernetesClientModule> {
  try {
    return await import('@kubernetes/client-node')
  } catch (cause) {
    const text =
      "kubernetes needs the package @kubernetes/client-node: npm install '@kubernetes/client-node@^1.4'"
    throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { cause })
  }
}
