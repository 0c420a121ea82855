/** Authorization of requests, compared in constant time, and the CORS protocol. */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../core/errors.ts'
import { isSameSecret } from '../core/http-caller.ts'
import { isToken } from '../dispatch/validate-request.ts'
import type { Auth, Cors, RouteSettings } from './route-options.ts'

type CorsSettings = NonNullable<RouteSettings['cors']>

/** Why a request is refused; undefined for a request that may pass. */
export function checkAuthorization(
  auth: Auth,
  authorization: string | undefined,
): ManyhostError | undefined {
  const [, scheme = '', credentials = ''] = /^(\S+) +(\S+) *$/.exec(authorization ?? '') ?? []
  let granted = false
  // Every secret is compared, so that the time does not show which one matched.
  if (scheme.toLowerCase() === 'bearer') {
    for (const token of auth.bearer ?? []) granted = isSameSecret(token, credentials) || granted
  } else if (scheme.toLowerCase() === 'basic') {
    const given = Buffer.from(credentials, 'base64').toString('utf8')
    for (const [user, password] of Object.entries(auth.basic ?? {})) {
      granted = isSameSecret(`${user}:${password}`, given) || granted
    }
  }
  if (granted) return undefined
  const credentialsState = authorization === undefined ? 'no credentials' : 'wrong credentials'
  return new ManyhostError('MANYHOST_UNAUTHORIZED', `the request has ${credentialsState}`)
}

/** The value of `WWW-Authenticate` for a refused request (RFC 9110 section 11.6.1). */
export function buildChallenge(auth: Auth): string {
  const bearer = auth.bearer ? ['Bearer realm="manyhost"'] : []
  const basic = auth.basic ? ['Basic realm="manyhost", charset="UTF-8"'] : []
  return [...bearer, ...basic].join(', ')
}

/** Headers that let a browser give the response to a script of that origin: names and values in turn. */
export function corsHeaders(cors: Cors, origin: string | undefined): string[] {
  if (origin === undefined) return []
  const any = cors.origins.includes('*')
  if (!any && !cors.origins.includes(origin)) return ['vary', 'origin']
  const headers = ['access-control-allow-origin', any ? '*' : origin]
  if (!any) headers.push('vary', 'origin')
  if (cors.credentials) headers.push('access-control-allow-credentials', 'true')
  if (cors.exposedHeaders?.length) {
    headers.push('access-control-expose-headers', cors.exposedHeaders.join(', '))
  }
  return headers
}

/** Whether this is the request by which a browser asks for permission before the actual request. */
export function isPreflight({ method, headers }: IncomingMessage): boolean {
  return (
    method === 'OPTIONS' &&
    headers.origin !== undefined &&
    headers['access-control-request-method'] !== undefined
  )
}

const DEFAULT_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** The methods of the options; otherwise the usual ones and the requested one. */
function allowedMethods({ methods }: Cors, headers: IncomingMessage['headers']): string {
  if (methods) return methods.join(', ')
  const requested = headers['access-control-request-method'] as string
  const isUsual = DEFAULT_METHODS.includes(requested) || !isToken(requested)
  return [...DEFAULT_METHODS, ...(isUsual ? [] : [requested])].join(', ')
}

export function preflightHeaders(cors: CorsSettings, { headers }: IncomingMessage): string[] {
  const response = corsHeaders(cors, headers.origin)
  if (!response.includes('access-control-allow-origin')) return response
  const requested = headers['access-control-request-headers']
  const allowed = cors.headers?.join(', ') ?? requested
  response.push('access-control-allow-methods', allowedMethods(cors, headers))
  if (allowed) response.push('access-control-allow-headers', allowed)
  response.push('access-control-max-age', String(Math.round(cors.maxAge / 1_000)))
  return response
}
