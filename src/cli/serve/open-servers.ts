/** The servers of `manyhost serve`: gateways, feed and admin address. */
import { ManyhostError } from '../../core/errors.ts'
import { type AdminServer, openAdminServer } from '../../gateway/admin/server.ts'
import { createGateway, type Gateway } from '../../gateway/index.ts'
import type { Session } from '../../index.ts'
import { CliError } from '../exit.ts'
import { createFeedMount } from './feed.ts'
import type { FleetFile } from './fleet-file.ts'
import { toAdminSettings } from './gateway-options.ts'

export interface OpenServers {
  readonly gateways: readonly Gateway[]
  readonly admin: AdminServer
  /** Whether the process is about to end. From then on `/readyz` answers that it is not ready. */
  isClosing: boolean
  close(): Promise<void>
}

/** Opens the gateways, the feed and the admin server of a fleet file: all of them, or none. @throws CliError */
export async function openServers(
  session: Session,
  { config, gateways }: FleetFile,
): Promise<OpenServers> {
  const opened: Gateway[] = []
  const servers = { isClosing: false }
  try {
    for (const options of gateways) opened.push(await createGateway(session, options))
    await session.feed?.listen()
    const admin = await openAdminServer(session, {
      ...toAdminSettings(config),
      mounts: createFeedMount(session.feed, config),
      isReady: () => !servers.isClosing,
    })
    const close = async (): Promise<void> => {
      await Promise.all(opened.map((gateway) => gateway.close()))
      await admin.close()
    }
    return Object.assign(servers, { gateways: opened, admin, close })
  } catch (error) {
    await Promise.all(opened.map((gateway) => gateway.close()))
    await session.close({ force: true })
    if (!(error instanceof ManyhostError)) throw error
    throw new CliError('listen', error.message, { cause: error })
  }
}
