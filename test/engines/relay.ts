/** What stands between us and an engine that is to come and go, while what it runs stays. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

export interface Relay {
  /** Nobody is there: connections break, new ones are refused. */
  cut(): Promise<void>
  restore(): Promise<void>
}

/** @param socket listens there; else on a port of the loopback, which stays the same */
export async function openRelay(
  target: NetConnectOpts,
  socket?: string,
): Promise<Relay & { readonly port: number }> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ ...target, allowHalfOpen: true } as NetConnectOpts)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one)
      one.pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  let port = 0
  const restore = async (): Promise<void> => {
    server.listen(socket === undefined ? { host: '127.0.0.1', port } : { path: socket })
    await once(server, 'listening')
    if (socket === undefined) port = (server.address() as AddressInfo).port
  }
  const cut = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const one of open) one.destroy()
    await closed
  }
  await restore()
  return { port, cut, restore }
}
