/** The admin address as a server: what answers is given. */
import { createServer, type RequestListener } from 'node:http'
import type { Config } from '../../config/config.ts'
import { listenOn, urlOf } from '../../gateway/listening.ts'
import { afterIdly } from '../../time.ts'
import { addressOf } from './doors.ts'

export interface AdminServer {
  readonly urls: readonly string[]
  close(): Promise<void>
}

/** How long answers may take to end when it closes: event streams do not end by themselves. */
const GRACE = 1_000

/** @throws ManyhostError when an address cannot be listened on */
export async function openAdmin(
  admin: Config['admin'],
  handler: RequestListener,
): Promise<AdminServer> {
  const servers = (admin === false ? [] : admin.listen).map((listen) => ({
    server: createServer({ headersTimeout: 10_000, requestTimeout: 0 }, handler),
    where: addressOf(listen),
  }))
  const close = async (): Promise<void> => {
    const timer = afterIdly(GRACE, () => {
      for (const { server } of servers) server.closeAllConnections()
    })
    await Promise.all(
      servers.map(({ server }) => {
        const closed = new Promise((resolve) => server.close(resolve))
        server.closeIdleConnections()
        return closed
      }),
    )
    timer.clear()
  }
  try {
    for (const { server, where } of servers) await listenOn(server, where, 'admin')
  } catch (error) {
    await close()
    throw error
  }
  return { urls: servers.map(({ server }) => urlOf(server, false)), close }
}
