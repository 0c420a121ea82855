/** `manyhost feed broker`: runs a broker of its own, until Ctrl-C. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { extname } from 'node:path'
import { describeError } from '../../core/errors.ts'
import { guardConnections, serverOptions } from '../../core/http/http-server.ts'
import { formatServerUrl } from '../../core/http/server-url.ts'
import { parseEndpoint } from '../../feed/endpoints.ts'
import {
  Feed,
  type FeedEndpoint,
  feedHandler,
  fromEnv,
  fromFile,
  fromPostgres,
  fromSqlite,
  type IdentitySource,
} from '../../feed/index.ts'
import { CliError, EXIT, toCliError } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { hasUrlPassword } from '../secrets.ts'
import { printable, writeLine } from '../terminal.ts'

interface BrokerFlags {
  readonly endpoint?: readonly string[]
  readonly bind?: string
  readonly tlscert?: string
  readonly tlskey?: string
  readonly auth?: readonly string[]
  readonly exporter?: string
  readonly name?: string
  readonly patterns?: boolean
  readonly history?: number
  readonly debug?: boolean
}

export async function run(_: readonly unknown[], options: BrokerFlags): Promise<number> {
  const { auth = ['env'], name, patterns = false, history = 0, debug = false, exporter } = options
  const { signal } = abortOnInterrupt()
  const feed = createFeed(() => {
    const identities = auth.map(openIdentitySource)
    const endpoints = toEndpoints(options)
    return new Feed({ endpoints, identities, patterns, history, ...(name && { name }) })
  })
  printBrokerEvents(feed, debug)
  let server: Server | undefined
  try {
    for (const url of await feed.listen()) await writeLine(`listening on ${url}`)
    if (exporter !== undefined) {
      server = await serveExporter(feed, exporter)
      await writeLine(`metrics, health and HTTP on ${formatServerUrl(server, 'http')}`)
    }
    if (!signal.aborted) await once(signal, 'abort')
  } catch (error) {
    throw toCliError(error, {}, 'listen')
  } finally {
    await feed.close()
    server?.close()
    server?.closeAllConnections()
  }
  return EXIT.ok.number
}

function createFeed(make: () => Feed): Feed {
  try {
    return make()
  } catch (error) {
    throw error instanceof CliError ? error : new CliError('usage', describeError(error))
  }
}

function toEndpoints({ endpoint = [], bind, tlscert, tlskey }: BrokerFlags): FeedEndpoint[] {
  if ((tlscert === undefined) !== (tlskey === undefined)) {
    throw new CliError('usage', '--tlscert and --tlskey belong together: give both')
  }
  const own = bind ?? (endpoint.length === 0 ? '127.0.0.1:20000' : undefined)
  if (own === undefined) return [...endpoint]
  if (tlscert === undefined || tlskey === undefined) return [own, ...endpoint]
  const { address: where } = parseEndpoint(own)
  if ('path' in where)
    throw new CliError('usage', '--tlscert is for --bind host:port, not for a unix socket')
  return [{ ...where, tls: { cert: tlscert, key: tlskey } }, ...endpoint]
}

function openIdentitySource(auth: string): IdentitySource {
  if (auth === 'env') return fromEnv()
  if (/^(database\+)?postgres(ql)?:/.test(auth)) {
    if (hasUrlPassword(auth)) {
      throw new CliError(
        'usage',
        '--auth: put the password into PGPASSWORD; every user of this machine can read arguments',
      )
    }
    return fromPostgres(auth)
  }
  const kind = extname(auth)
  if (['.json', '.yaml', '.yml'].includes(kind)) return fromFile(auth)
  if (['.sqlite', '.sqlite3', '.db'].includes(kind)) return fromSqlite(auth)
  const known = 'a .json, .yaml or .sqlite file, postgresql://..., or env'
  throw new CliError('usage', `--auth: expected ${known}, got ${JSON.stringify(auth)}`)
}

function printBrokerEvents(feed: Feed, debug: boolean): void {
  const report = (text: string): void => void process.stderr.write(`${printable(text)}\n`)
  feed.on('error', (error) => report(`error: ${describeError(error)}`))
  feed.on('refused', ({ address, category, message }) =>
    report(`${address} was refused: ${message || category}`),
  )
  if (!debug) return
  feed.on('connected', ({ ident, address }) => report(`${address} is ${ident}`))
  feed.on('lost', ({ ident, address }) => report(`${address} ${ident} has disconnected`))
}

/** Each stream of events holds a connection, and there can be a thousand streams. */
const EXPORTER_LIMITS = { requestTimeout: 30_000, connections: 2_000 }

/** @throws CliError */
async function serveExporter(feed: Feed, address: string): Promise<Server> {
  const { address: where } = parseEndpoint(address)
  const handler = feedHandler(feed)
  const server = createServer(serverOptions(EXPORTER_LIMITS), (req, res) => {
    const path = (req.url ?? '/').split('?')[0]
    if (path === '/feed') return handler(req, res)
    if (path === '/healthz') {
      return res
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify(feed.health()))
    }
    if (path !== '/metrics') return res.writeHead(404).end()
    feed.metrics.metrics().then(
      (text) => res.writeHead(200, { 'content-type': feed.metrics.contentType }).end(text),
      () => res.writeHead(500).end(),
    )
  })
  guardConnections(server, EXPORTER_LIMITS)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new CliError('listen', `--exporter: cannot listen on ${address}: ${describeError(error)}`),
      )
    })
    server.listen(where, resolve)
  })
  return server
}
