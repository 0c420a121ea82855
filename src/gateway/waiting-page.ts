/** The page that a browser shows while a service starts. It reloads itself, and shows the state of the service. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Cluster } from '../cluster/cluster.ts'
import type { RequestInput, ResponseSink } from '../dispatch/exchange.ts'

/** Whether a person opens a page, as opposed to a request of a script or for a part of a page. */
export function wantsWaitingPage({ method, headers }: IncomingMessage): boolean {
  const { accept = '' } = headers
  const mode = headers['sec-fetch-mode']
  return (
    method === 'GET' && accept.includes('text/html') && (mode === undefined || mode === 'navigate')
  )
}

export function hasReadyInstance(cluster: Cluster): boolean {
  return cluster.instances.some(({ state }) => state === 'ready')
}

/** Sends one request of a waiting page to the queue, so that the load balancer of the service sees that it is wanted. */
export class WakeUpRequests {
  readonly #waking = new WeakSet<Cluster>()

  sendOnce(cluster: Cluster, input: () => RequestInput): void {
    if (this.#waking.has(cluster)) return
    this.#waking.add(cluster)
    cluster.send(
      input(),
      discardResponse(() => this.#waking.delete(cluster)),
    )
  }
}

function discardResponse(onEnd: () => void): ResponseSink {
  const ignore = (): void => undefined
  return {
    onInfo: ignore,
    onHead: ignore,
    onData: ignore,
    onEnd,
    onError: onEnd,
    onUpgrade: (_status, _headers, socket) => {
      socket.destroy()
      onEnd()
    },
  }
}

export function writeWaitingPage(response: ServerResponse, cluster: Cluster): void {
  const { failure } = cluster
  const body = renderWaitingPage(
    new URL(cluster.url).host,
    cluster.describeState().split(';', 1)[0] as string,
    failure !== undefined,
  )
  response.writeHead(503, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    'retry-after': '2',
    refresh: '2',
  })
  response.end(body)
}

function renderWaitingPage(name: string, state: string, isFailing: boolean): string {
  const status = isFailing
    ? 'The last start failed. Another start is tried.'
    : 'An instance is being started.'
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(name)} is starting</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { display: grid; place-items: center; min-height: 90vh; margin: 0 }
  main { max-width: 30rem; padding: 1rem }
  p { opacity: .75 }
</style>
<main aria-live="polite">
  <h1>${escapeHtml(name)} is starting</h1>
  <p>${status} This page reloads itself.</p>
  <p><small>${escapeHtml(state)}</small></p>
</main>
`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}
