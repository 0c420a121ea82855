/** The market as one provider sees it: a budget, a private network, and the machines that are rented. */
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { now, within } from '../../src/core/time.ts'
import { Avoided } from './avoided.ts'
import { explain, type Golem, load, type Packages } from './client.ts'
import { type Bill, Costs, dearest, type Price } from './costs.ts'
import { connect } from './daemon.ts'
import { Demand, type Draft } from './demand.ts'
import { giveBack, type Manner } from './give-back.ts'
import type { Offers } from './offers.ts'
import { imageOf, readAppKey, type Settings } from './options.ts'

/** What an instance asks of a machine. */
export interface Wanted {
  readonly service: string
  readonly image: string
  readonly cpus: number | undefined
  /** In bytes. */
  readonly memory: number | undefined
}

/** A machine that is rented and runs. */
export interface Rented {
  readonly exe: Golem.ExeUnit
  readonly rental: Golem.ResourceRental
  readonly node: string
  /** For people. */
  readonly name: string
  /** On the clock of `now`. */
  readonly until: number
  /** Resolves, with why, when the other side has ended it. */
  readonly lost: Promise<string>
  /** Whether it still is ours, as the daemon knows it; rejects when the daemon cannot be asked. */
  check(): Promise<string | undefined>
  /** Gives it back. Resolves when nothing runs there any more; the last bill is waited for behind. */
  end(hasFailed: boolean): Promise<void>
}

/** How often a machine that was rented may fail to start, before the start fails. */
const MOST_TRIES = 3

/** How long a node may take to say yes, in s. */
const APPROVAL = 30

type Payment = NonNullable<Golem.ResourceRentalOptions['payment']>

interface Open {
  readonly network: Golem.GolemNetwork
  readonly allocation: Golem.Allocation
  readonly vpn: Golem.Network
  readonly until: number
}

export class Market {
  readonly #settings: Settings
  readonly #avoided: Avoided
  readonly #costs: Costs
  readonly #demands = new Map<string, Promise<Demand>>()
  /** Nodes that are rented, or about to be. */
  readonly #busy = new Set<string>()
  readonly #lost = new Map<string, (why: string) => void>()
  /** What goes on when nobody waits any more: last bills, agreements that came too late. */
  readonly #loose = new Set<Promise<unknown>>()
  #packages: Promise<Packages> | undefined
  #open: Promise<Open> | undefined
  #isClosed = false
  key = ''

  constructor(settings: Settings) {
    this.#settings = settings
    this.#avoided = new Avoided(settings.avoidFor)
    this.#costs = new Costs(settings.budget, settings.registry, {
      rented: () => this.#lost.size,
      avoided: () => this.#avoided.count(now()),
    })
  }

  packages(): Promise<Packages> {
    this.#packages ??= load()
    return this.#packages
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  async rent(wanted: Wanted, signal: AbortSignal): Promise<Rented> {
    try {
      const open = await this.#connected()
      this.#afford(open)
      const { offers } = await this.#demand(open, wanted)
      for (let tries = 1; ; tries++) {
        const { proposal, agreement } = await this.#sign(open, offers, wanted, signal)
        try {
          return await this.#begin(open, proposal, agreement, wanted, signal)
        } catch (error) {
          this.#costs.count(wanted.service, 'failed')
          if (signal.aborted || tries === MOST_TRIES) throw error
        }
      }
    } catch (cause) {
      if (cause instanceof ManyhostError || signal.aborted) throw cause
      const why = `golem: ${explain(cause, this.key)}`
      // Its cause would carry the key to whoever prints it whole.
      throw new ManyhostError('MANYHOST_START_FAILED', why, { service: wanted.service })
    }
  }

  #connected(): Promise<Open> {
    this.#open ??= this.#connect().catch((error) => {
      this.#open = undefined
      throw error
    })
    return this.#open
  }

  async #connect(): Promise<Open> {
    const { budget, budgetHours, vpn } = this.#settings
    const packages = await this.packages()
    this.key = readAppKey(this.#settings)
    const network = await connect(packages, this.#settings, this.key)
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
          this.#lost.get(agreement.id)?.(`its agreement was terminated ${by}: ${reason}`)
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

  #afford({ until }: Open): void {
    const { rentHours, budget, budgetHours } = this.#settings
    if (this.#costs.isSpent) {
      const text = `golem: the budget of ${budget} GLM is spent`
      throw new ManyhostError('MANYHOST_START_FAILED', text)
    }
    if (now() + rentHours * 3_600_000 > until) {
      const text = `golem: the ${budgetHours} hours for which the budget is reserved are nearly over`
      throw new ManyhostError('MANYHOST_START_FAILED', text)
    }
  }

  /** One demand for all that ask for the same; offers to it are negotiated as they come. */
  #demand(open: Open, wanted: Wanted): Promise<Demand> {
    const { image, cpus, memory } = wanted
    const key = JSON.stringify([image, cpus, memory])
    const known = this.#demands.get(key)
    if (known) return known
    const made = this.#publish(open, wanted, key)
    this.#demands.set(key, made)
    // One that failed is tried again by the next start.
    void made.catch(() => this.#demands.delete(key))
    return made
  }

  async #publish(
    { network, allocation }: Open,
    { image, cpus, memory }: Wanted,
    key: string,
  ): Promise<Demand> {
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
          ...imageOf(image),
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
    const demand: Demand = new Demand(network.market, {
      specification,
      rentHours,
      isCheap: ({ pricing: { start: once, cpuSec, envSec } }) =>
        isWithin(once, start) &&
        isWithin(cpuSec * 3_600, cpuHour) &&
        isWithin(envSec * 3_600, hour),
      isUsable: (node) => !this.#busy.has(node) && !this.#avoided.has(node, now()),
      // The next start makes another.
      onEnd: () => this.#demands.delete(key),
    })
    return demand
  }

  /** Takes offers until a node says yes. */
  async #sign(
    { network }: Open,
    offers: Offers<Draft>,
    { service }: Wanted,
    signal: AbortSignal,
  ): Promise<{ proposal: Golem.OfferProposal; agreement: Golem.Agreement }> {
    for (;;) {
      const { proposal, node } = await offers.take(signal, (one) => this.#busy.add(one.node))
      // Not given up with the start: nobody would know of an agreement that is approved later.
      const proposed = network.market.proposeAgreement(proposal, {
        expirationSec: Math.round(this.#settings.rentHours * 3_600),
        waitingForApprovalTimeoutSec: APPROVAL,
      })
      try {
        const agreement = await unlessAborted(proposed, signal)
        this.#costs.count(service, 'signed')
        return { proposal, agreement }
      } catch (error) {
        if (signal.aborted) {
          this.#behind(
            proposed
              .then((late) => network.market.terminateAgreement(late, 'Not needed any more'))
              .finally(() => this.#free(node)),
          )
          throw error
        }
        this.#costs.count(service, 'refused')
        this.#avoided.add(node, now())
        this.#free(node)
      }
    }
  }

  async #begin(
    open: Open,
    proposal: Golem.OfferProposal,
    agreement: Golem.Agreement,
    { service }: Wanted,
    signal: AbortSignal,
  ): Promise<Rented> {
    const { network, allocation, vpn } = open
    const { provider } = agreement
    const until = now() + this.#settings.rentHours * 3_600_000
    let setLost: (why: string) => void = () => {}
    const lost = new Promise<string>((resolve) => {
      setLost = resolve
    })
    this.#lost.set(agreement.id, setLost)
    let node: Golem.NetworkNode | undefined
    let rental: Golem.ResourceRental | undefined
    const end = async (hasFailed: boolean): Promise<void> => {
      if (hasFailed) this.#avoided.add(provider.id, now())
      await giveBack(open, { agreement, rental, node }, this.#manner)
      this.#lost.delete(agreement.id)
      this.#free(provider.id)
    }
    try {
      node = await network.network.createNetworkNode(vpn, provider.id)
      rental = network.rental.createResourceRental(agreement, allocation, {
        networkNode: node,
        payment: this.#payment(proposal, service),
      })
      const exe = await unlessAborted(rental.getExeUnit(), signal)
      const rented = rental
      let ending: Promise<void> | undefined
      return {
        exe,
        rental: rented,
        node: provider.id,
        name: provider.name ?? provider.id,
        until,
        lost,
        check: () => this.#check(open, rented, exe),
        end: (hasFailed) => {
          ending ??= end(hasFailed)
            .then(() => this.#costs.count(service, hasFailed ? 'lost' : 'ended'))
            .catch(() => {})
          return ending
        },
      }
    } catch (error) {
      await end(!signal.aborted)
      throw error
    }
  }

  /** A node is paid what it offered, as long as the budget lasts. */
  #payment(proposal: Golem.OfferProposal, service: string): Payment {
    const bill: Bill = { service, granted: 0 }
    const begun = now()
    const { cpuThreads } = proposal.getDto()
    const price: Price = { ...proposal.pricing, threads: cpuThreads ?? 1 }
    const judge = (total: number): boolean => {
      const most = dearest(price, (now() - begun) / 1_000)
      if (Number.isFinite(total) && total <= most && this.#costs.grant(bill, total)) return true
      this.#costs.refuse(bill, total)
      return false
    }
    return {
      debitNoteFilter: ({ totalAmountDue }) => judge(Number(totalAmountDue)),
      invoiceFilter: ({ amount }) => judge(Number(amount)),
    }
  }

  async #check(
    { network }: Open,
    rental: Golem.ResourceRental,
    exe: Golem.ExeUnit,
  ): Promise<string | undefined> {
    const state = await rental.fetchAgreementState()
    if (state !== 'Approved') return `its agreement is ${state.toLowerCase()}`
    const activity = (await network.activity.refreshActivity(exe.activity)).getState()
    return activity === 'Terminated' ? 'its machine was ended' : undefined
  }

  get #manner(): Manner {
    const { paymentTimeout, rentHours } = this.#settings
    return {
      paymentTimeout,
      // What golem-js gave up, when the daemon was away, we do not: a machine that is forgotten costs on.
      patience: rentHours * 3_600_000,
      isClosed: () => this.#isClosed,
      behind: (work) => this.#behind(work),
    }
  }

  #free(node: string): void {
    this.#busy.delete(node)
    for (const demand of this.#demands.values()) {
      void demand.then(({ offers }) => offers.wake()).catch(() => {})
    }
  }

  #behind(work: Promise<unknown>): void {
    const done: Promise<unknown> = work.catch(() => {}).finally(() => this.#loose.delete(done))
    this.#loose.add(done)
  }

  /** To be called when all machines were given back: pays, and releases what is left of the budget. */
  async close(): Promise<void> {
    try {
      await this.#close()
    } finally {
      this.#costs.close()
    }
  }

  async #close(): Promise<void> {
    const opening = this.#open
    if (!opening) return
    const open = await opening.catch(() => undefined)
    if (!open) return
    const { network, allocation, vpn } = open
    for (const demand of this.#demands.values())
      await demand.then((one) => one.stop()).catch(() => {})
    this.#demands.clear()
    await within(this.#settings.paymentTimeout, Promise.all(this.#loose))
    this.#isClosed = true
    await network.destroyNetwork(vpn).catch(() => {})
    await network.payment.releaseAllocation(allocation).catch(() => {})
    await network.disconnect().catch(() => {})
    this.#open = undefined
  }
}

function isWithin(price: number, most: number): boolean {
  return price >= 0 && price <= most
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(asError(signal.reason))
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
