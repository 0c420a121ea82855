/** What describes one route of the admin API. */
import type { AdminRouteHandler } from './call.ts'

export interface AdminRoute {
  readonly method: 'GET' | 'PUT' | 'POST'
  /** Each variable in braces stands for one segment: `/api/clusters/{name}`. */
  readonly path: string
  readonly answer: AdminRouteHandler
  /** Unique, for the OpenAPI document. */
  readonly id: string
  readonly summary: string
  /** Whether callers need no token. @default false */
  readonly needsNoToken?: boolean
  /** Names of its query parameters. */
  readonly query?: readonly ('follow' | 'lines' | 'wait')[]
  /** Name of the schema of the request body; absent if it takes no body. */
  readonly requestSchema?: string
  /** Status of a successful reply. */
  readonly success: 200 | 202
  /** Name of the schema of the reply, or the media type of a reply that is not JSON. */
  readonly responseType: string
  /** Statuses of its failures, beside those that every route has. */
  readonly failures?: readonly number[]
}
