/**
 * Violations that Node's parser accepts, and that a server in front of other servers must refuse: different servers read them
 * differently, which makes request smuggling possible. They are checked on the raw headers, before these are joined.
 * RFC 9112 sections 3.2, 5.1 and 6.1; RFC 9110 section 7.2; RFC 9113 section 8.3.1.
 */

/** A request as the parser saw it. */
export interface RawRequest {
  readonly method: string
  readonly url: string
  readonly httpVersion: string
  readonly httpVersionMajor: number
  /** Names and values in turn. */
  readonly rawHeaders: readonly string[]
}

/** `host`, `host:port`, `[v6]:port`: no user, path, list or space. */
const HOST_PATTERN = /^(?:[a-z0-9_](?:[a-z0-9_.-]*)|\[[0-9a-f:.]+\])(?::\d{0,5})?$/i
/** Visible ASCII. For other bytes in a target, each server would guess an encoding. */
const TARGET_PATTERN = /^[\x21-\x7e]+$/
const DIGITS = /^\d{1,15}$/

/** Why a request is refused, for the message: `the request has ...`. Undefined for a valid request. */
export function findViolation(request: RawRequest): string | undefined {
  const { httpVersion, httpVersionMajor, rawHeaders } = request
  if (httpVersionMajor === 2) return findHttp2Violation(request)
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return `the HTTP version ${httpVersion}`
  let host: string | undefined
  let length: string | undefined
  let coding: string | undefined
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string
    // Only three names matter. Their lengths exclude most other names cheaply.
    switch (name.length) {
      case 0:
        return 'a header without a name'
      case 4:
        if (name !== 'Host' && name.toLowerCase() !== 'host') break
        if (host !== undefined) return 'more than one Host header'
        host = rawHeaders[index + 1] as string
        break
      case 14:
        if (name.toLowerCase() !== 'content-length') break
        if (length !== undefined) return 'more than one Content-Length header'
        length = rawHeaders[index + 1] as string
        if (!DIGITS.test(length)) return 'a Content-Length that is not a number'
        break
      case 17:
        if (name.toLowerCase() !== 'transfer-encoding') break
        if (coding !== undefined) return 'more than one Transfer-Encoding header'
        coding = rawHeaders[index + 1] as string
        break
    }
  }
  return (
    findHostViolation(host, httpVersion) ??
    findCodingViolation(coding, length, httpVersion) ??
    findTargetViolation(request)
  )
}

function findHostViolation(host: string | undefined, httpVersion: string): string | undefined {
  if (host === undefined) return httpVersion === '1.1' ? 'no Host header' : undefined
  return HOST_PATTERN.test(host) ? undefined : 'a Host header that is not a host'
}

function findCodingViolation(
  coding: string | undefined,
  length: string | undefined,
  httpVersion: string,
): string | undefined {
  if (coding === undefined) return undefined
  if (coding.toLowerCase() !== 'chunked') return 'a Transfer-Encoding other than chunked'
  if (length !== undefined) return 'both Content-Length and Transfer-Encoding'
  return httpVersion === '1.0' ? 'Transfer-Encoding with HTTP/1.0' : undefined
}

function findTargetViolation({ method, url }: RawRequest): string | undefined {
  if (!TARGET_PATTERN.test(url)) return 'a target with characters that no URL may have'
  if (url === '*')
    return method === 'OPTIONS' ? undefined : 'the target * with a method other than OPTIONS'
  if (url.includes('#')) return 'a target with a fragment'
  if (url.startsWith('/')) return undefined
  const authority = /^https?:\/\/([^/?]*)/i.exec(url)?.[1]
  if (authority === undefined) return 'a target that is neither a path nor a URL'
  return HOST_PATTERN.test(authority) ? undefined : 'a target whose host is not a host'
}

/** HTTP/2 has its own framing; hosts and targets are checked as in HTTP/1.1. */
function findHttp2Violation(request: RawRequest): string | undefined {
  const { rawHeaders } = request
  let authority: string | undefined
  let scheme: string | undefined
  let host: string | undefined
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string
    const value = rawHeaders[index + 1] as string
    if (name === ':authority') authority = value
    if (name === ':scheme') scheme = value
    if (name !== 'host') continue
    if (host !== undefined) return 'more than one Host header'
    host = value
  }
  const isBoth = authority !== undefined && host !== undefined && authority !== host
  if (
    isBoth &&
    normalizeHost(authority as string, scheme) !== normalizeHost(host as string, scheme)
  ) {
    return 'a Host header other than its :authority'
  }
  const isPath = request.url.startsWith('/') || request.url === '*'
  return (
    findHostViolation(authority ?? host, '1.1') ??
    (isPath ? findTargetViolation(request) : 'a :path that is not a path')
  )
}

/** A host in normal form, for a comparison (RFC 3986 section 6.2): in lower case, without the default port. */
function normalizeHost(host: string, scheme: string | undefined): string {
  const defaultPort = scheme === 'https' ? '443' : '80'
  return host
    .toLowerCase()
    .replace(/:(\d*)$/, (all, port) => (port === '' || port === defaultPort ? '' : all))
}
