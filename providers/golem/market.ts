/** The Golem market for one provider: a budget, a private network, and the rented machines. */
import { settleOrAbort } from '../../src/core/abort.ts'
import { deferred } from '../../src/core/deferred.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { now, resolveWithin } from '../../src/core/time.ts'
import { AvoidedNodes } from './avoided-nodes.ts'
import { type GolemBill, GolemCosts, type GolemPrice, maxCost } from './costs.ts'
import { connectToDaemon } from './daemon.ts'
import { GolemDemand, type GolemDraftOffer } from './demand.ts'
import { type EndRentalOptions, endRental } from './end-rental.ts'
import type { GolemOfferQueue } from './offer-queue.ts'
import { type GolemSettings, parseImage, readAppKey } from './options.ts'
import { explainGolemError, type Golem, type GolemPackages, loadGolemPackages } from './packages.ts'

/** The machine that an instance needs. */
export interface GolemMachineRequest {
  readonly service: string
  readonly image: string
  readonly cpus: number | undefined
  /** In bytes. */
  readonly memory: number | undefined
}

/** A rented machine that runs. */
export interface RentedMachine {
  readonly exe: Golem.ExeUnit
  readonly rental: Golem.ResourceRental
  readonly node: string
  /** The name of the node, for messages. */
  readonly name: string
  /** On the clock of `now`. */
  readonly rentedUntil: number
  /** Resolves with the reason when the other side has ended the rental. */
  readonly lost: Promise<string>
  /** Why the rental has ended; undefined if it goes on. Rejects when the daemon does not answer. */
  findEndReason(): Promise<string | undefined>
  /** Gives the machine back. Resolves when nothing runs on it any more; the last bill may come later. */
  end(hasFailed: boolean): Promise<void>
}

/** Number of rented machines that may fail to start before the start of an instance fails. */
const MAX_TRIES = 3

/** How long a node may take to approve an agreement, in s. */
const APPROVAL_TIMEOUT_SECONDS = 30

type RentalPayment = NonNullable<Golem.ResourceRentalOptions['payment']>

interface OpenMarket {
  readonly network: Golem.GolemNetwork
  readonly allocation: Golem.Allocation
  readonly vpn: Golem.Network
  readonly until: number
}

export class GolemMarket {
  readonly #settings: GolemSettings
  readonly #avoided: AvoidedNodes
  readonly #costs: GolemCosts
  readonly #demands = new Map<string, Promise<GolemDemand>>()
  /** Nodes that are rented, or about to be. */
  readonly #busyNodes = new Set<string>()
  readonly #lostListeners = new Map<string, (why: string) => void>()
  /** Work that nobody waits for any more: last bills, agreements that came too late. */
  readonly #backgroundWork = new Set<Promise<unknown>>()
  #packages: Promise<GolemPackages> | undefined
  #opening: Promise<OpenMarket> | undefined
  #isClosed = false
  key = ''

  constructor(settings: GolemSettings) {
    this.#settings = settings
    this.#avoided = new AvoidedNodes(settings.avoidFor)
    this.#costs = new GolemCosts(settings.budget, settings.registry, {
      numRented: () => this.#lostListeners.size,
      numAvoided: () => this.#avoided.count(now()),
    })
  }

  packages(): Promise<GolemPackages> {
    this.#packages ??= loadGolemPackages()
    return this.#packages
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async rent(request: GolemMachineRequest, signal: AbortSignal): Promise<RentedMachine> {
    try {
      const open = await this.#whenOpen()
      this.#checkBudget(open)
      const { offers } = await this.#demandFor(open, request)
      for (let tries = 1; ; tries++) {
        const { proposal, agreement } = await this.#signAgreement(open, offers, request, signal)
        try {
          return await this.#startMachine(open, proposal, agreement, request, signal)
        } catch (error) {
          this.#costs.countAgreement(request.service, 'failed')
          if (signal.aborted || tries === MAX_TRIES) throw error
        }
      }
    } catch (cause) {
      if (cause instanceof ManyhostError || signal.aborted) throw cause
      const why = `golem: ${explainGolemError(cause, this.key)}`
      // Without `cause`: it may hold the key, and a program may print it.
      throw new ManyhostError('MANYHOST_START_FAILED', why, { service: request.service })
    }
  }

  #whenOpen(): Promise<OpenMarket> {
    this.#opening ??= this.#connect().catch((error) => {
      this.#opening = undefined
      throw error
    })
    return this.#opening
  }

  async #connect(): Promise<OpenMarket> {
    const { budget, budgetHours, vpn } = this.#settings
    const packages = await this.packages()
    this.key = readAppKey(this.#settings)
    const network = await connectToDaemon(packages, this.#settings, this.key)
    try {
      const until = now() + budgetHours * 3_600_000
      const allocation = await network.payment.createAllocation({
        budget,
        expirationSec: Math.round(budgetHours * 3_600),
      })
      try {
        const made = await network.createNetwork({ ip: vpn ?? '192.168.0.0/16' })
        network.market.events.on('agreementTerminated', ({ agreement, terminatedBy, reason }) => {
          const by = terminatedBy === 'Requestor' ? 'by us' : 'by its node'
          this.#lostListeners.get(agreement.id)?.(`its agreement was terminated ${by}: ${reason}`)
        })
        return { network, allocation, vpn: made, until }
      } catch (error) {
        await network.payment.releaseAllocation(allocation).catch(() => {})
        throw error
      }
    } catch (error) {
      await network.disconnect().catch(() => {})
      throw error
    }
  }

  #checkBudget({ until }: OpenMarket): void {
    const { rentHours, budget, budgetHours } = this.#settings
    if (this.#costs.isSpent) {
      const text = `golem: the budget of ${budget} GLM is spent; option budget sets it`
      throw new ManyhostError('MANYHOST_START_FAILED', text)
    }
    if (now() + rentHours * 3_600_000 > until) {
      const text = `golem: the budget is reserved for ${budgetHours} hours (budgetHours), and less than ${rentHours} of them are left for a new rental`
      throw new ManyhostError('MANYHOST_START_FAILED', text)
    }
  }

  /** One demand for all instances that need the same machine. Offers to it are negotiated as they come. */
  #demandFor(open: OpenMarket, request: GolemMachineRequest): Promise<GolemDemand> {
    const { image, cpus, memory } = request
    const key = JSON.stringify([image, cpus, memory])
    const known = this.#demands.get(key)
    if (known) return known
    const demand = this.#publish(open, request, key)
    this.#demands.set(key, demand)
    // If it could not be published, the next start tries again.
    void demand.catch(() => this.#demands.delete(key))
    return demand
  }

  async #publish(
    { network, allocation }: OpenMarket,
    { image, cpus, memory }: GolemMachineRequest,
    key: string,
  ): Promise<GolemDemand> {
    const { maxPrices, rentHours, subnet } = this.#settings
    const { start = 0, cpuHour = 0, hour = 0 } = maxPrices
    const pricing = {
      model: 'linear',
      maxStartPrice: start,
      maxCpuPerHourPrice: cpuHour,
      maxEnvPerHourPrice: hour,
    } as const
    const specification = await network.market.buildDemandDetails(
      {
        workload: {
          ...parseImage(image),
          capabilities: ['vpn'],
          ...(cpus !== undefined && {
            minCpuThreads: Math.ceil(cpus),
            minCpuCores: Math.ceil(cpus),
          }),
          ...(memory !== undefined && { minMemGib: memory / 1_073_741_824 }),
        } as Golem.MarketOrderSpec['demand']['workload'],
        ...(subnet !== undefined && { subnetTag: subnet }),
      } as Golem.MarketOrderSpec['demand'],
      { rentHours, pricing },
      allocation,
    )
    const demand: GolemDemand = new GolemDemand(network.market, {
      specification,
      rentHours,
      isAffordable: ({ pricing: { start: once, cpuSec, envSec } }) =>
        isAffordablePrice(once, start) &&
        isAffordablePrice(cpuSec * 3_600, cpuHour) &&
        isAffordablePrice(envSec * 3_600, hour),
      isUsable: (node) => !this.#busyNodes.has(node) && !this.#avoided.has(node, now()),
      // The next start publishes another demand.
      onEnd: () => this.#demands.delete(key),
    })
    return demand
  }

  /** Takes one offer after the other until a node approves an agreement. */
  async #signAgreement(
    { network }: OpenMarket,
    offers: GolemOfferQueue<GolemDraftOffer>,
    { service }: GolemMachineRequest,
    signal: AbortSignal,
  ): Promise<{ proposal: Golem.OfferProposal; agreement: Golem.Agreement }> {
    for (;;) {
      const { proposal, node } = await offers.take(signal, (one) => this.#busyNodes.add(one.node))
      // It goes on when the start is given up: an agreement that is approved later must be terminated.
      const proposed = network.market.proposeAgreement(proposal, {
        expirationSec: Math.round(this.#settings.rentHours * 3_600),
        waitingForApprovalTimeoutSec: APPROVAL_TIMEOUT_SECONDS,
      })
      try {
        const agreement = await settleOrAbort(proposed, signal)
        this.#costs.countAgreement(service, 'signed')
        return { proposal, agreement }
      } catch (error) {
        if (signal.aborted) {
          this.#runInBackground(
            proposed
              .then((late) => network.market.terminateAgreement(late, 'Not needed any more'))
              .finally(() => this.#freeNode(node)),
          )
          throw error
        }
        this.#costs.countAgreement(service, 'refused')
        this.#avoided.add(node, now())
        this.#freeNode(node)
      }
    }
  }

  async #startMachine(
    open: OpenMarket,
    proposal: Golem.OfferProposal,
    agreement: Golem.Agreement,
    { service }: GolemMachineRequest,
    signal: AbortSignal,
  ): Promise<RentedMachine> {
    const { network, allocation, vpn } = open
    const { provider } = agreement
    const until = now() + this.#settings.rentHours * 3_600_000
    const lost = deferred<string>()
    this.#lostListeners.set(agreement.id, lost.resolve)
    let node: Golem.NetworkNode | undefined
    let rental: Golem.ResourceRental | undefined
    const end = async (hasFailed: boolean): Promise<void> => {
      if (hasFailed) this.#avoided.add(provider.id, now())
      await endRental(open, { agreement, rental, node }, this.#endRentalOptions)
      this.#lostListeners.delete(agreement.id)
      this.#freeNode(provider.id)
    }
    try {
      node = await network.network.createNetworkNode(vpn, provider.id)
      rental = network.rental.createResourceRental(agreement, allocation, {
        networkNode: node,
        payment: this.#paymentOptions(proposal, service),
      })
      const exe = await settleOrAbort(rental.getExeUnit(), signal)
      const rented = rental
      let ending: Promise<void> | undefined
      return {
        exe,
        rental: rented,
        node: provider.id,
        name: provider.name ?? provider.id,
        rentedUntil: until,
        lost: lost.promise,
        findEndReason: () => this.#findEndReason(open, rented, exe),
        end: (hasFailed) => {
          ending ??= end(hasFailed)
            .then(() => this.#costs.countAgreement(service, hasFailed ? 'lost' : 'ended'))
            .catch(() => {})
          return ending
        },
      }
    } catch (error) {
      await end(!signal.aborted)
      throw error
    }
  }

  /** A node is paid by the price of its offer, as long as the budget lasts. */
  #paymentOptions(proposal: Golem.OfferProposal, service: string): RentalPayment {
    const bill: GolemBill = { service, granted: 0 }
    const begun = now()
    const { cpuThreads } = proposal.getDto()
    const price: GolemPrice = { ...proposal.pricing, threads: cpuThreads ?? 1 }
    const accept = (total: number): boolean => {
      const max = maxCost(price, (now() - begun) / 1_000)
      if (Number.isFinite(total) && total <= max && this.#costs.grant(bill, total)) return true
      this.#costs.refuse(bill, total)
      return false
    }
    return {
      debitNoteFilter: ({ totalAmountDue }) => accept(Number(totalAmountDue)),
      invoiceFilter: ({ amount }) => accept(Number(amount)),
    }
  }

  async #findEndReason(
    { network }: OpenMarket,
    rental: Golem.ResourceRental,
    exe: Golem.ExeUnit,
  ): Promise<string | undefined> {
    const state = await rental.fetchAgreementState()
    if (state !== 'Approved') return `its agreement is ${state.toLowerCase()}`
    const activity = (await network.activity.refreshActivity(exe.activity)).getState()
    return activity === 'Terminated' ? 'its machine was ended' : undefined
  }

  get #endRentalOptions(): EndRentalOptions {
    const { paymentTimeout, rentHours } = this.#settings
    return {
      paymentTimeout,
      // golem-js gives up when the daemon is away. We go on, because a machine that is forgotten costs money.
      terminateRetryMs: rentHours * 3_600_000,
      isClosed: () => this.#isClosed,
      runInBackground: (work) => this.#runInBackground(work),
    }
  }

  #freeNode(node: string): void {
    this.#busyNodes.delete(node)
    for (const demand of this.#demands.values()) {
      void demand.then(({ offers }) => offers.serveWaiting()).catch(() => {})
    }
  }

  #runInBackground(work: Promise<unknown>): void {
    const done: Promise<unknown> = work
      .catch(() => {})
      .finally(() => this.#backgroundWork.delete(done))
    this.#backgroundWork.add(done)
  }

  /** Call this when all machines were given back: it pays, and releases the rest of the budget. */
  async close(): Promise<void> {
    try {
      await this.#close()
    } finally {
      this.#costs.close()
    }
  }

  async #close(): Promise<void> {
    const opening = this.#opening
    if (!opening) return
    const open = await opening.catch(() => undefined)
    if (!open) return
    const { network, allocation, vpn } = open
    for (const demand of this.#demands.values())
      await demand.then((one) => one.stop()).catch(() => {})
    this.#demands.clear()
    await resolveWithin(this.#settings.paymentTimeout, Promise.all(this.#backgroundWork))
    this.#isClosed = true
    await network.destroyNetwork(vpn).catch(() => {})
    await network.payment.releaseAllocation(allocation).catch(() => {})
    await network.disconnect().catch(() => {})
    this.#opening = undefined
  }
}

function isAffordablePrice(price: number, max: number): boolean {
  return price >= 0 && price <= max
}
