/** Ports for tests that need a port of their own, for a server that comes back or for an address without a server. */
import { createServer } from 'node:net'

/**
 * The first of 200 ports for the tests of this process, because other processes may run the same tests at the same time. The
 * system does not use these ports for `listen(0)` or for outgoing connections, so a port that was closed stays free.
 */
export const portBase = await claimPorts()

/**
 * A process that listens on the last port of a block owns the block until it ends. Ports from 20,000 up are those that other
 * tests get without asking for a certain one.
 */
async function claimPorts(): Promise<number> {
  for (let turn = 0; turn < 40; turn++) {
    const base = 12_000 + 200 * ((process.pid + turn) % 40)
    const claim = createServer().unref()
    const isMine = await new Promise((resolve) => {
      claim.once('error', () => resolve(false)).listen(base + 199, '127.0.0.1', () => resolve(true))
    })
    if (isMine) return base
  }
  throw new Error('all 40 blocks of ports are in use by other processes')
}
