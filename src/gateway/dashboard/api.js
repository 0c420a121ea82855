/** Calls of the admin API, with the token if the server needs one. */

const KEY = 'manyhost-token'

export function setToken(token) {
  sessionStorage.setItem(KEY, token)
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null
}

/** The failure of a call, with the message of the server. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

/** Rejects with a Problem if the call failed. */
export async function call(method, path, { body, signal } = {}) {
  const token = sessionStorage.getItem(KEY)
  const headers = { 'x-requested-with': 'manyhost' }
  if (token !== null) headers.authorization = `Bearer ${token}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: 'no-store',
  })
  if (response.ok) return response
  const problem = await response.json().catch(() => ({}))
  throw new Problem(
    response.status,
    problem.detail ?? `the server responded with ${response.status}`,
  )
}

export function clusterPath(name, rest = '') {
  return `api/clusters/${encodeURIComponent(name)}${rest}`
}

export function instancePath(name, id, rest) {
  return clusterPath(name, `/instances/${encodeURIComponent(id)}${rest}`)
}

/** Reads a response without an end as text, chunk by chunk. */
export async function* chunks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}
