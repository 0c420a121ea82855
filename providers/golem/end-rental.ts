/** How a rented machine is given back: what matters is that it is gone, and costs nothing any more. */
import { now, resolveWithin, sleep } from '../../src/core/time.ts'
import type { Golem } from './packages.ts'

/** Between two tries to end what the daemon did not answer for, in ms. */
const TERMINATE_PAUSE = 1_000

/** How often it is asked whether a machine is given back, in ms. */
const POLL_INTERVAL = 100

/** What there is to give back. */
export interface RentalParts {
  readonly agreement: Golem.Agreement
  readonly rental: Golem.ResourceRental | undefined
  readonly node: Golem.NetworkNode | undefined
}

export interface EndRentalOptions {
  /** How long the last bill is waited for, in ms. */
  readonly paymentTimeout: number
  /** How long an agreement is tried to be ended while the daemon is away, in ms. */
  readonly terminateRetryMs: number
  isClosed(): boolean
  /** Takes what goes on when nobody waits any more. */
  runInBackground(work: Promise<unknown>): void
}

interface GolemNetworks {
  readonly network: Golem.GolemNetwork
  readonly vpn: Golem.Network
}

/** Resolves when nothing runs there any more, for all that the daemon says. */
export async function endRental(
  { network, vpn }: GolemNetworks,
  { agreement, rental, node }: RentalParts,
  options: EndRentalOptions,
): Promise<void> {
  if (rental) {
    // Resolves when the last bill has come; what matters here is that the machine is gone.
    const finalized = rental.stopAndFinalize(Math.max(1, options.paymentTimeout))
    options.runInBackground(finalized)
    await waitUntilEnded(network, agreement, finalized)
  }
  if (!(await terminateAgreement(network, agreement))) {
    options.runInBackground(retryUntilDone(() => terminateAgreement(network, agreement), options))
  }
  if (node) await network.network.removeNetworkNode(vpn, node).catch(() => {})
}

/** Whether it is known to be over. */
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
  { terminateRetryMs: patience, isClosed }: EndRentalOptions,
) {
  const until = now() + patience
  while (!isClosed() && now() < until && !(await action())) await sleep(TERMINATE_PAUSE)
}

/** A machine is gone when its agreement is: golem-js ends them in this order, and goes on to wait for the bill. */
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
