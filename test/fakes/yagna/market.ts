/** Demands, offers, agreements and bills of the fake daemon, and the nodes that answer to them. */
import { randomUUID } from 'node:crypto'
import { Feed, stamp } from './feed.ts'

export interface Node {
  readonly id: string
  readonly name: string
  /** In GLM: per second, per second of CPU, and once. */
  readonly prices: readonly [number, number, number]
  /** What becomes of it. */
  refusesAgreements?: boolean
  failsToDeploy?: boolean
  /** Asks for so much, whatever was agreed. */
  asksFor?: number
}

interface Body {
  readonly properties: Record<string, unknown>
  readonly constraints: string
}

interface Demand extends Body {
  readonly id: string
  readonly events: Feed
  isOver: boolean
}

interface Proposal extends Body {
  readonly proposalId: string
  readonly issuerId: string
  readonly state: string
  readonly timestamp: string
  readonly prevProposalId?: string
  readonly demand: string
  readonly node: Node
}

export interface Agreement {
  readonly agreementId: string
  readonly validTo: string
  readonly demand: object
  readonly offer: { readonly properties: Record<string, unknown>; readonly providerId: string }
  state: string
  readonly timestamp: string
  readonly node: Node
  readonly begun: number
}

interface Bill {
  readonly id: string
  readonly agreementId: string
  readonly amount: string
  status: string
}

export const REQUESTOR = '0x00000000000000000000000000000000000000aa'
const PLATFORM = 'erc20-holesky-tglm'

export class Market {
  readonly nodes: readonly Node[]
  readonly demands = new Map<string, Demand>()
  readonly proposals = new Map<string, Proposal>()
  readonly agreements = new Map<string, Agreement>()
  readonly bills = new Map<string, Bill>()
  readonly agreementEvents = new Feed()
  readonly debitNoteEvents = new Feed()
  readonly invoiceEvents = new Feed()

  constructor(nodes: readonly Node[]) {
    this.nodes = nodes
  }

  subscribe({ properties, constraints }: Body): string {
    const id = randomUUID()
    this.demands.set(id, { id, properties, constraints, events: new Feed(), isOver: false })
    for (const node of this.nodes) if (!this.#isRented(node)) this.#offer(node, id, 'Initial')
    return id
  }

  unsubscribe(id: string): boolean {
    const demand = this.demands.get(id)
    if (!demand) return false
    demand.isOver = true
    return this.demands.delete(id)
  }

  #isRented(node: Node): boolean {
    return [...this.agreements.values()].some(
      (one) => one.node === node && one.state === 'Approved',
    )
  }

  #offer(node: Node, demand: string, state: 'Initial' | 'Draft', prevProposalId?: string): void {
    const proposal: Proposal = {
      proposalId: randomUUID(),
      issuerId: node.id,
      state,
      timestamp: stamp(),
      ...(prevProposalId !== undefined && { prevProposalId }),
      properties: propertiesOf(node),
      constraints: '(&)',
      demand,
      node,
    }
    this.proposals.set(proposal.proposalId, proposal)
    this.demands.get(demand)?.events.push({ eventType: 'ProposalEvent', proposal })
  }

  /** The node answers a counter proposal with a draft. */
  counter(demand: string, proposal: string, body: Body): string | undefined {
    const to = this.proposals.get(proposal)
    if (!to) return undefined
    const proposalId = randomUUID()
    this.proposals.set(proposalId, {
      ...to,
      ...body,
      proposalId,
      issuerId: REQUESTOR,
      state: 'Draft',
      prevProposalId: proposal,
    })
    this.#offer(to.node, demand, 'Draft', proposalId)
    return proposalId
  }

  agree(proposal: string, validTo: string): string | undefined {
    const to = this.proposals.get(proposal)
    const demand = this.demands.get(to?.demand ?? '')
    if (!to || !demand) return undefined
    const agreementId = randomUUID()
    this.agreements.set(agreementId, {
      agreementId,
      validTo,
      demand: { ...demand, demandId: demand.id, requestorId: REQUESTOR, events: undefined },
      offer: { properties: to.properties, providerId: to.node.id },
      state: 'Proposal',
      timestamp: stamp(),
      node: to.node,
      begun: Date.now(),
    })
    return agreementId
  }

  /** The node has said yes, or no. */
  decide(agreement: Agreement): void {
    const isTaken = this.#isRented(agreement.node)
    agreement.state = agreement.node.refusesAgreements || isTaken ? 'Rejected' : 'Approved'
    const eventType = `Agreement${agreement.state}Event`
    const { agreementId } = agreement
    this.agreementEvents.push({ eventType, agreementId, reason: { message: 'so it is' } })
  }

  terminate(agreement: Agreement, terminator: 'Requestor' | 'Provider', message: string): void {
    if (agreement.state !== 'Approved') return
    agreement.state = 'Terminated'
    const { agreementId, node } = agreement
    const event = { eventType: 'AgreementTerminatedEvent', agreementId, terminator }
    this.agreementEvents.push({ ...event, reason: { message } })
    this.#bill('invoice', agreement)
    // It is free again, and says so to everybody who asks.
    for (const { id } of this.demands.values()) this.#offer(node, id, 'Initial')
  }

  #cost({ node, begun }: Agreement): number {
    const [second, cpu, start] = node.prices
    return node.asksFor ?? start + ((Date.now() - begun) / 1_000) * (second + cpu)
  }

  #bill(kind: 'invoice' | 'debitNote', agreement: Agreement): void {
    const { agreementId } = agreement
    const bill = {
      id: randomUUID(),
      agreementId,
      amount: this.#cost(agreement).toFixed(6),
      status: 'RECEIVED',
    }
    this.bills.set(bill.id, bill)
    if (kind === 'invoice') {
      this.invoiceEvents.push({ eventType: 'InvoiceReceivedEvent', invoiceId: bill.id })
    } else {
      this.debitNoteEvents.push({ eventType: 'DebitNoteReceivedEvent', debitNoteId: bill.id })
    }
  }

  /** Its node says what is due until now. */
  debit(agreementId: string): void {
    const agreement = this.agreements.get(agreementId)
    if (agreement) this.#bill('debitNote', agreement)
  }

  /** A bill as the API tells it. */
  document(id: string): object | undefined {
    const bill = this.bills.get(id)
    if (!bill) return undefined
    const agreement = this.agreements.get(bill.agreementId) as Agreement
    return {
      invoiceId: id,
      debitNoteId: id,
      issuerId: agreement.node.id,
      recipientId: REQUESTOR,
      payeeAddr: agreement.node.id,
      payerAddr: REQUESTOR,
      paymentPlatform: PLATFORM,
      timestamp: stamp(),
      agreementId: bill.agreementId,
      activityId: '',
      activityIds: [],
      totalAmountDue: bill.amount,
      amount: bill.amount,
      paymentDueDate: stamp(),
      status: bill.status,
    }
  }
}

function propertiesOf({ id, name, prices }: Node): Record<string, unknown> {
  const [second, cpu, start] = prices
  return {
    'golem.node.id.name': name,
    [`golem.com.payment.platform.${PLATFORM}.address`]: id,
    'golem.com.usage.vector': ['golem.usage.duration_sec', 'golem.usage.cpu_sec'],
    'golem.com.pricing.model': 'linear',
    'golem.com.pricing.model.linear.coeffs': [second, cpu, start],
    'golem.inf.cpu.cores': 1,
    'golem.inf.cpu.threads': 1,
    'golem.inf.mem.gib': 4,
    'golem.inf.storage.gib': 20,
    'golem.runtime.name': 'vm',
    'golem.runtime.capabilities': ['vpn'],
  }
}
