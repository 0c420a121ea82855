/** The API server of one cluster, and what it takes to rely on it. */
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

/** How long one call may take, in ms. */
const CALL_TIMEOUT = 30_000
/** Longest part of an answer that an error repeats, in characters. */
const MAX_ERROR_TEXT = 1_000

/** Answers of an API server, or of what stands before it, that says it cannot at the moment. */
const BUSY_STATUSES = new Set([429, 502, 503, 504])

type KubernetesClientModule = typeof import('@kubernetes/client-node')

interface OpenedKubernetesApi {
  readonly client: KubernetesClientModule
  readonly config: KubeConfig
  readonly core: CoreV1Api
  readonly apps: AppsV1Api
  readonly server: string
}

/** What calls are made with; `options` goes into each as its last argument. */
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

  /** Whether the last call did not reach it. */
  get isUnreachable(): boolean {
    return this.#caller.isUnreachable
  }

  /** @throws ManyhostError MANYHOST_UNSUPPORTED without the client, MANYHOST_START_FAILED without a cluster */
  #open(): Promise<OpenedKubernetesApi> {
    this.#opened ??= this.#load().catch((error) => {
      // A file that is not there yet may be there at the next start.
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
      if (!cluster) throw new Error(`there is no context '${config.getCurrentContext()}'`)
      const core = config.makeApiClient(client.CoreV1Api)
      const apps = config.makeApiClient(client.AppsV1Api)
      this.#server = cluster.server
      return { client, config, core, apps, server: cluster.server }
    } catch (cause) {
      const text = `the cluster is not known: ${describeError(cause)}`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
    }
  }

  /** That of the options, of the context, or of the service account. */
  async namespace(): Promise<string> {
    const { config } = await this.#open()
    const own = config.getContextObject(config.getCurrentContext())?.namespace
    return this.#settings.namespace ?? (own?.trim() || 'default')
  }

  /**
   * @throws ManyhostError MANYHOST_START_FAILED when the API server cannot be reached, or with what it says otherwise;
   * `statusOf` tells its status
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

  /** An answer as it comes, with no end of its own. Once only. */
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
    // Once there is a response, what goes wrong is told by that; both may tell it.
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
    let said = ''
    response.setEncoding('utf8')
    for await (const chunk of response) if (said.length < MAX_ERROR_TEXT) said += chunk
    throw createRefusedError(
      'read',
      Object.assign(new Error(said), { code: response.statusCode, body: said }),
    )
  }

  /** A connection of several channels into a pod. Once only. */
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

/** The status that the API server answered with, of an error of `call`. */
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
    // Its store changes its leader, or is slow: 500, and its name.
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

/** The client's message holds all headers; what people need is the API server's own. */
function createRefusedError(what: string, cause: Error): ManyhostError {
  const { code, body } = cause as { code?: unknown; body?: unknown }
  const said =
    typeof code === 'number' ? `${code}: ${readStatusMessage(body)}` : describeError(cause)
  return new ManyhostError('MANYHOST_START_FAILED', `cannot ${what}: ${said}`, { cause })
}

function readStatusMessage(body: unknown): string {
  let status = body
  try {
    if (typeof body === 'string') status = JSON.parse(body)
  } catch {
    // Of what stands before the API server.
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
      // It is of the client's own kind, whose types know less than it takes.
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
