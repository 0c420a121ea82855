/** Ports for tests that name one: to come again where others look, or to find nobody there. */
import { createServer } from 'node:net'

/**
 * First of 200 ports for the tests of this process: others may run the same tests at the same time. The system hands them
 * to nobody, be it for `listen(0)` or for the near end of a connection: whoever gives one up finds it free again.
 */
export const portBase = await claimPorts()

/**
 * Whoever listens on the last port of a block has the block, to the end of its process. From 20,000 up are the ports of
 * those that name none, as other tests do.
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
  throw new Error('40 others run these tests')
}
