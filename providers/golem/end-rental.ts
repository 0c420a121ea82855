/** Ends the rental of a machine: the machine must be gone, so that it costs nothing any more. */
import { now, resolveWithin, sleep } from '../../src/core/time.ts'
import type { Golem } from './packages.ts'

/** The pause between two tries to terminate an agreement, when the daemon did not answer, in ms. */
const TERMINATE_PAUSE = 1_000

/** Interval at which the daemon is asked whether an agreement has ended, in ms. */
const POLL_INTERVAL = 100

/** The parts of a rental that have to be ended. */
export interface RentalParts {
  readonly agreement: Golem.Agreement
  readonly rental: Golem.ResourceRental | undefined
  readonly node: Golem.NetworkNode | undefined
}

export interface EndRentalOptions {
  /** How long golem-js waits for the last bill, in ms. */
  readonly paymentTimeout: number
  /** How long the termination of an agreement is tried while the daemon does not answer, in ms. */
  readonly terminateRetryMs: number
  isClosed(): boolean
  /** Takes work that nobody waits for any more. */
  runInBackground(work: Promise<unknown>): void
}

interface GolemNetworks {
  readonly network: Golem.GolemNetwork
  readonly vpn: Golem.Network
}

/** Resolves when nothing runs on the machine any more, as far as the daemon knows. */
export async function endRental(
  { network, vpn }: GolemNetworks,
  { agreement, rental, node }: RentalParts,
  options: EndRentalOptions,
): Promise<void> {
  if (rental) {
    // This resolves when the last bill has come. Here it is enough that the machine is gone.
    const finalized = rental.stopAndFinalize(Math.max(1, options.paymentTimeout))
    options.runInBackground(finalized)
    await waitUntilEnded(network, agreement, finalized)
  }
  if (!(await terminateAgreement(network, agreement))) {
    options.runInBackground(retryUntilDone(() => terminateAgreement(network, agreement), options))
  }
  if (node) await network.network.removeNetworkNode(vpn, node).catch(() => {})
}

/** Whether the agreement is known to be over. */
async function terminateAgreement({ market }: Golem.GolemNetwork, agreement: Golem.Agreement) {
  try {
    const state = (await market.fetchAgreement(agreement.id)).getState()
    if (state === 'Approved') await market.terminateAgreement(agreement, 'Not needed any more')
    return true
  } catch {
    return false
  }
}

async function retryUntilDone(
  action: () => Promise<boolean>,
  { terminateRetryMs, isClosed }: EndRentalOptions,
) {
  const until = now() + terminateRetryMs
  while (!isClosed() && now() < until && !(await action())) await sleep(TERMINATE_PAUSE)
}

/** golem-js ends the machine, then the agreement, and then waits for the bill. So the end of the agreement is enough. */
async function waitUntilEnded(
  network: Golem.GolemNetwork,
  { id }: Golem.Agreement,
  finalized: Promise<unknown>,
): Promise<void> {
  let isOver = false
  const over = finalized
    .catch(() => {})
    .then(() => {
      isOver = true
    })
  while (!isOver) {
    const state = await network.market.fetchAgreement(id).then(
      (one) => one.getState(),
      () => undefined,
    )
    if (state !== undefined && state !== 'Approved') return
    await resolveWithin(POLL_INTERVAL, over)
  }
}
