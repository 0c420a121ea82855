/** What the routes of the API get, and what they answer. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { PullAccess } from './access.ts'
import type { PullApiReply } from './envelope.ts'
import type { JobHub } from './job-hub.ts'
import type { ParsedJson } from './json.ts'

export interface PullApiOptions {
  /** The path at which the API is mounted: `/workers`, or '' for the root. */
  readonly prefix: string
  readonly token: string | undefined
  /** Bytes of the largest body. */
  readonly bodySize: number
  /** Seconds of the longest long poll. */
  readonly maxWait: number
  /** What `GET /` answers. */
  readonly about: Readonly<Record<string, string>>
}

/** One request to the API. */
export interface PullApiCall {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** After `X-HTTP-Method-Override`. */
  readonly method: string
  readonly query: URLSearchParams
  /** Absolute URL of the root of the API. */
  readonly baseUrl: string
  /** The segments of the path that are ids, from left to right. */
  readonly pathIds: readonly string[]
  readonly hub: JobHub
  readonly access: PullAccess
  readonly options: PullApiOptions
  /** Resolves with the body; `undefined` when there is none. @throws Refusal 400, 413 */
  readJson(): Promise<ParsedJson | undefined>
}

export type PullRoute = (call: PullApiCall) => PullApiReply | Promise<PullApiReply>

export interface PullRouteEntry {
  /** Segments of the path; `:id` stands for any one. */
  readonly pattern: readonly string[]
  readonly methods: Readonly<Record<string, PullRoute>>
}
