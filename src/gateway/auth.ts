/** Who may ask: bearer tokens and basic auth, compared in constant time; and who may ask from a browser (CORS). */
import type { IncomingMessage } from 'node:http'
import { ManyhostError } from '../core/errors.ts'
import { isSameSecret } from '../core/http-caller.ts'
import { isToken } from '../dispatch/validate-request.ts'
import type { Auth, Cors, RouteSettings } from './route-options.ts'

type CorsSettings = NonNullable<RouteSettings['cors']>

/** Undefined for a request that may pass, the refusal for one that may not. */
export function checkAuthorization(
  auth: Auth,
  authorization: string | undefined,
): ManyhostError | undefined {
  const [, scheme = '', credentials = ''] = /^(\S+) +(\S+) *$/.exec(authorization ?? '') ?? []
  let granted = false
  // All are compared, so that the time does not tell which one it was.
  if (scheme.toLowerCase() === 'bearer') {
    for (const token of auth.bearer ?? []) granted = isSameSecret(token, credentials) || granted
  } else if (scheme.toLowerCase() === 'basic') {
    const given = Buffer.from(credentials, 'base64').toString('utf8')
    for (const [user, password] of Object.entries(auth.basic ?? {})) {
      granted = isSameSecret(`${user}:${password}`, given) || granted
    }
  }
  if (granted) return undefined
  const what = authorization === undefined ? 'no credentials' : 'wrong credentials'
  return new ManyhostError('MANYHOST_UNAUTHORIZED', `the request has ${what}`)
}

/** The challenge that goes with a refusal (RFC 9110 section 11.6.1). */
export function buildChallenge(auth: Auth): string {
  const bearer = auth.bearer ? ['Bearer realm="manyhost"'] : []
  const basic = auth.basic ? ['Basic realm="manyhost", charset="UTF-8"'] : []
  return [...bearer, ...basic].join(', ')
}

/** Headers that let a browser hand the answer to a script of that origin: names and values in turn. */
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

/** Whether this is a browser's question before the request proper. */
export function isPreflight({ method, headers }: IncomingMessage): boolean {
  return (
    method === 'OPTIONS' &&
    headers.origin !== undefined &&
    headers['access-control-request-method'] !== undefined
  )
}

const DEFAULT_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** Those of the options; else the usual ones, and the one that is asked for. */
function allowedMethods({ methods }: Cors, headers: IncomingMessage['headers']): string {
  if (methods) return methods.join(', ')
  const asked = headers['access-control-request-method'] as string
  const isUsual = DEFAULT_METHODS.includes(asked) || !isToken(asked)
  return [...DEFAULT_METHODS, ...(isUsual ? [] : [asked])].join(', ')
}

export function preflightHeaders(cors: CorsSettings, { headers }: IncomingMessage): string[] {
  const answer = corsHeaders(cors, headers.origin)
  if (!answer.includes('access-control-allow-origin')) return answer
  const asked = headers['access-control-request-headers']
  const allowed = cors.headers?.join(', ') ?? asked
  answer.push('access-control-allow-methods', allowedMethods(cors, headers))
  if (allowed) answer.push('access-control-allow-headers', allowed)
  answer.push('access-control-max-age', String(Math.round(cors.maxAge / 1_000)))
  return answer
}
