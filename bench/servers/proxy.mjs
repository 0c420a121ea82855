/** One proxy of the gateway's bench: `node proxy.mjs KIND UPSTREAM`. Tells its port; answers `memory` with its RSS. */
import { createServer } from 'node:http'

const [kind, upstream] = process.argv.slice(2)

const KINDS = {
  /** The floor: what node:http and undici cost without anything in between. */
  async bare() {
    const { Pool } = await import('undici')
    const pool = new Pool(upstream, { connections: 64, headersTimeout: 0, bodyTimeout: 0 })
    const server = createServer((req, res) => {
      const handler = {
        onConnect() {},
        onHeaders(status, raw, resume) {
          this.resume = resume
          res.writeHead(status, raw.map(String))
          return true
        },
        onData(chunk) {
          if (res.write(chunk) || res.destroyed) return true
          res.once('drain', this.resume)
          return false
        },
        onComplete: () => res.end(),
        onError: () => res.destroy(),
      }
      const { method, url, rawHeaders } = req
      const hasBody = 'content-length' in req.headers || 'transfer-encoding' in req.headers
      pool.dispatch(
        { method, path: url, headers: rawHeaders.filter(passes), body: hasBody ? req : null },
        handler,
      )
    })
    return listen(server)
  },
  async gateway() {
    const { Session } = await import('manyhost')
    const { createGateway } = await import('manyhost/gateway')
    const { fixed } = await import('manyhost/providers/static')
    const session = new Session({ provider: fixed({ urls: [upstream] }) })
    session.startup({
      url: 'http://calc',
      concurrency: 64,
      resend: kind === 'gateway' ? 'always' : 'never',
    })
    await session.client().get('http://calc/')
    const gateway = await createGateway(session, {
      listen: '127.0.0.1:0',
      services: { 'http://calc': { hosts: ['127.0.0.1'] } },
    })
    return Number(new URL(gateway.url).port)
  },
  /** Nothing is kept for a second attempt: what a body costs without the file that it is kept in. */
  'gateway, resend never': () => KINDS.gateway(),
  async 'http-proxy-3'() {
    const { createProxyServer } = await import('http-proxy-3')
    const { Agent } = await import('node:http')
    const agent = new Agent({ keepAlive: true, maxSockets: 64 })
    const proxy = createProxyServer({ target: upstream, agent })
    return listen(createServer((req, res) => proxy.web(req, res)))
  },
  async httpxy() {
    const { createProxyServer } = await import('httpxy')
    const { Agent } = await import('node:http')
    const agent = new Agent({ keepAlive: true, maxSockets: 64 })
    const proxy = createProxyServer({ target: upstream, agent })
    return listen(createServer((req, res) => void proxy.web(req, res)))
  },
  async 'fast-proxy'() {
    const { default: fastProxy } = await import('fast-proxy')
    const { proxy } = fastProxy({ base: upstream, undici: { connections: 64 } })
    return listen(createServer((req, res) => proxy(req, res, req.url, {})))
  },
  async '@fastify/http-proxy'() {
    const { default: fastify } = await import('fastify')
    const { default: httpProxy } = await import('@fastify/http-proxy')
    const app = fastify()
    app.register(httpProxy, { upstream, undici: { connections: 64 } })
    await app.listen({ port: 0, host: '127.0.0.1' })
    return app.server.address().port
  },
}

function passes(_, index, all) {
  const name = all[index & ~1].toLowerCase()
  return name !== 'connection' && name !== 'transfer-encoding' && name !== 'keep-alive'
}

function listen(server) {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server.address().port))
  })
}

process.on('message', (message) => {
  if (message === 'memory') process.send({ rss: process.memoryUsage().rss })
})
process.on('disconnect', () => process.exit())
process.send({ port: await KINDS[kind]() })
