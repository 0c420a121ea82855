/** A task server's HTTP API: tasks are handed in, looked at, waited for and cancelled, and their outputs are fetched. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createSecureContext } from 'node:tls'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { guardConnections, serverOptions } from '../../core/http/http-server.ts'
import { createRouteHandler } from '../../core/http/route-handler.ts'
import { isLoopback } from '../../core/options.ts'
import type { TaskApiOptions } from './options.ts'
import { createTaskApiRoutes } from './task-api-routes.ts'
import type { TaskServer } from './task-server.ts'

export interface TaskApiServer {
  readonly url: string
  /** What callers must show; undefined: nothing. */
  readonly token: string | undefined
  close(): Promise<void>
}

/** A POST may have 64 MiB. A caller that waits for a task holds a connection. */
const HTTP_LIMITS = { requestTimeout: 120_000, connections: 10_000 }

/**
 * Without a token it makes a random one; with `anyone`, everybody who reaches the port may run commands.
 * @throws Error EADDRINUSE and others, as the system says; ManyhostError MANYHOST_INVALID_OPTION
 */
export async function startTaskApiServer(
  server: TaskServer,
  options: TaskApiOptions,
): Promise<TaskApiServer> {
  const { host = '127.0.0.1', port = 0, anyone = false, insecure = false } = options
  const tls = readTlsFiles(options)
  if (!tls && !insecure && !isLoopback(host)) {
    throw invalidOption(
      `listen: ${host} can be reached from other machines, where the token could be read on the way: give certFile and certKeyFile, or insecure: true`,
    )
  }
  const token = anyone ? undefined : (options.token ?? randomBytes(24).toString('hex'))
  const handler = createRouteHandler(createTaskApiRoutes(server), {
    token,
    realm: 'tasks',
    detail: 'the task server needs its token: send Authorization: Bearer <token>',
  })
  const http = tls
    ? createTlsServer({ ...serverOptions(HTTP_LIMITS), ...tls }, handler)
    : createServer(serverOptions(HTTP_LIMITS), handler)
  guardConnections(http, HTTP_LIMITS)
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject)
    http.listen(port, host, resolve)
  })
  const { address, family, port: boundPort } = http.address() as AddressInfo
  const hostname = family === 'IPv6' ? `[${address}]` : address
  return {
    url: `${tls ? 'https' : 'http'}://${hostname}:${boundPort}`,
    token,
    async close() {
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
}

function readTlsFiles({
  certFile,
  certKeyFile,
}: TaskApiOptions): { cert: Buffer; key: Buffer } | undefined {
  if (certFile === undefined && certKeyFile === undefined) return undefined
  if (certFile === undefined || certKeyFile === undefined) {
    throw invalidOption('listen: certFile and certKeyFile must be given together')
  }
  try {
    const [cert, key] = [readFileSync(certFile), readFileSync(certKeyFile)]
    createSecureContext({ cert, key })
    return { cert, key }
  } catch (error) {
    throw invalidOption(
      `listen: ${certFile} and ${certKeyFile} cannot be used: ${describeError(error)}`,
    )
  }
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
