/**
 * What Node's parser lets through and a server in front of others must not: each of these is read differently by
 * different servers, and that is what smuggling lives on. Checked on the raw headers, before they are joined.
 * RFC 9112 sections 3.2, 5.1 and 6.1; RFC 9110 section 7.2.
 */

/** A request as the parser saw it. */
export interface RawRequest {
  readonly method: string
  readonly url: string
  readonly httpVersion: string
  /** Names and values in turn. */
  readonly rawHeaders: readonly string[]
}

/** `host`, `host:port`, `[v6]:port`: no user, path, list or space. */
const HOST = /^(?:[a-z0-9_](?:[a-z0-9_.-]*)|\[[0-9a-f:.]+\])(?::\d{0,5})?$/i
/** Visible ASCII: anything else in a target is somebody's guess at an encoding. */
const TARGET = /^[\x21-\x7e]+$/
const DIGITS = /^\d{1,15}$/

/** Why the request is to be refused, for the log and the answer; undefined for a good one. */
export function flaw(request: RawRequest): string | undefined {
  const { httpVersion, rawHeaders } = request
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return `HTTP version ${httpVersion}`
  let host: string | undefined
  let length: string | undefined
  let coding: string | undefined
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string
    const value = rawHeaders[index + 1] as string
    // Only three names matter; the first letter tells most apart.
    switch (name.length) {
      case 0:
        return 'a header without a name'
      case 4:
        if (name.toLowerCase() !== 'host') break
        if (host !== undefined) return 'more than one Host header'
        host = value
        break
      case 14:
        if (name.toLowerCase() !== 'content-length') break
        if (length !== undefined) return 'more than one Content-Length header'
        if (!DIGITS.test(value)) return 'a Content-Length that is not a number'
        length = value
        break
      case 17:
        if (name.toLowerCase() !== 'transfer-encoding') break
        if (coding !== undefined) return 'more than one Transfer-Encoding header'
        coding = value
        break
    }
  }
  return (
    hostFlaw(host, httpVersion) ?? codingFlaw(coding, length, httpVersion) ?? targetFlaw(request)
  )
}

function hostFlaw(host: string | undefined, httpVersion: string): string | undefined {
  if (host === undefined) return httpVersion === '1.1' ? 'no Host header' : undefined
  return HOST.test(host) ? undefined : 'a Host header that is no host'
}

function codingFlaw(
  coding: string | undefined,
  length: string | undefined,
  httpVersion: string,
): string | undefined {
  if (coding === undefined) return undefined
  if (coding.toLowerCase() !== 'chunked') return 'a Transfer-Encoding other than chunked'
  if (length !== undefined) return 'both Content-Length and Transfer-Encoding'
  return httpVersion === '1.0' ? 'Transfer-Encoding with HTTP/1.0' : undefined
}

function targetFlaw({ method, url }: RawRequest): string | undefined {
  if (!TARGET.test(url)) return 'a target with characters that a URL has not'
  if (url === '*')
    return method === 'OPTIONS' ? undefined : 'target * with a method other than OPTIONS'
  if (method === 'CONNECT') return undefined
  if (url.startsWith('/')) return url.includes('#') ? 'a target with a fragment' : undefined
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url))
    return 'a target that is neither path nor URL'
  const { username, password, hash } = new URL(url)
  return username || password || hash ? 'a target with user, password or fragment' : undefined
}
