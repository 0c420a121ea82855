/** A hub on a free port, and calls of its API. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Registry } from 'prom-client'
import { onTestFinished } from 'vitest'
import {
  type WorkersOptions,
  type WorkersProvider,
  workers,
} from '../../../providers/pull/index.ts'
import { waitUntil } from '../../help.ts'

export interface PullTestReply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, looked at by tests alone
  readonly body: any
}

export interface PullTestRequest {
  readonly json?: unknown
  readonly text?: string
  readonly headers?: Record<string, string>
  readonly signal?: AbortSignal
}

export interface TestHub {
  readonly provider: WorkersProvider
  readonly url: string
  ask(method: string, path: string, ask?: PullTestRequest): Promise<PullTestReply>
  /** Registers a service and answers with its path. */
  service(given?: object): Promise<string>
  submit(service: string, parameters: object): Promise<string>
  /** `wait` in s. */
  claim(service: string, worker?: string, wait?: number): Promise<PullTestReply>
  /** Resolves when a gauge is so large, all services together: `waiting`, `queue_size`, `working`, `workers`. */
  shows(gauge: string, value: number): Promise<unknown>
  close(): Promise<void>
}

/** Seconds of a long poll that comes to an end because of what the test does, and not by itself. */
export const LONG_POLL_SECONDS = 60

export const ADDER = {
  name: 'adder',
  description: 'adds',
  job_registration_schema: {
    $schema: 'http://json-schema.org/draft-04/schema#',
    type: 'object',
    properties: { a: { type: 'integer', maximum: 10 } },
    required: ['a'],
  },
  job_result_schema: { type: 'object', properties: { b: { type: 'integer' } } },
}

export async function openTestHub(options: WorkersOptions = {}): Promise<TestHub> {
  const registry = options.registry ?? new Registry()
  const provider = workers({ listen: 0, ...options, registry })
  const { url = '' } = await provider.ready()
  const ask: TestHub['ask'] = async (method, path, { json, text, headers, signal } = {}) => {
    const response = await fetch(new URL(path, url), {
      method,
      redirect: 'manual',
      headers: { ...(json !== undefined && { 'content-type': 'application/json' }), ...headers },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      ...(text !== undefined && { body: text }),
      ...(signal && { signal }),
    })
    const got = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json')
    const body = isJson && got ? JSON.parse(got) : undefined
    return { status: response.status, headers: response.headers, text: got, body }
  }
  const pathOf = (headers: Headers): string => (headers.get('location') ?? '').replace(url, '')
  const hub: TestHub = {
    provider,
    url,
    ask,
    async service(given = {}) {
      const { headers } = await ask('POST', '/services', { json: { ...ADDER, ...given } })
      return pathOf(headers)
    },
    async submit(service, parameters) {
      const { headers } = await ask('POST', `${service}/jobs`, { json: { parameters } })
      return pathOf(headers)
    },
    claim: (service, worker, wait) =>
      ask('GET', `${service}/next`, {
        headers: {
          ...(worker && { 'x-manyhost-worker': worker }),
          ...(wait && { prefer: `wait=${wait}` }),
        },
      }),
    shows: (gauge, value) =>
      waitUntil(async () => {
        const metric = await registry.getSingleMetric(`manyhost_pull_${gauge}`)?.get()
        return metric?.values.reduce((sum, one) => sum + one.value, 0) === value
      }, `${gauge} is ${value}`),
    close: () => provider.close?.() ?? Promise.resolve(),
  }
  onTestFinished(hub.close)
  return hub
}

/** Reports a job as COMPLETED, as its worker. */
export function completeJob(hub: TestHub, claim: PullTestReply, results: object, worker?: string) {
  return hub.ask('PATCH', `/jobs/${claim.body.data.id}`, {
    json: { status: 'COMPLETED', results },
    headers: {
      'x-manyhost-lease': claim.headers.get('x-manyhost-lease') ?? '',
      ...(worker && { 'x-manyhost-worker': worker }),
    },
  })
}

/** Path of a store that is removed after the test. */
export function createStorePath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-pull-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'jobs.db')
}
