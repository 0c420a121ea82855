/**
 * The connection to the yagna daemon. Three things of golem-js 3.6 do not do for a program that is to outlive a daemon
 * that is away: a bill that cannot be fetched is thrown where nobody can catch it, and ends the process; so does the
 * end of a long poll for offers (market.ts polls by itself); and a poll for events that fails is made again at once.
 */
import { sleep } from '../../src/core/time.ts'
import type { GolemSettings } from './options.ts'
import { type Golem, type GolemPackages, silentLogger } from './packages.ts'

/** Between two tries, in ms. */
const RETRY_PAUSE = 1_000

/** How often a bill is asked for. */
const MAX_TRIES = 600

export async function connectToDaemon(
  { golem }: GolemPackages,
  { url, paymentNetwork }: GolemSettings,
  key: string,
): Promise<Golem.GolemNetwork> {
  const yagna = new golem.YagnaApi({
    apiKey: key,
    logger: silentLogger,
    ...(url !== undefined && { basePath: url.replace(/\/$/, '') }),
  })
  const { market, payment } = yagna
  delayFailedPolls(market, 'collectAgreementEvents')
  delayFailedPolls(payment, 'getDebitNoteEvents')
  delayFailedPolls(payment, 'getInvoiceEvents')
  const network = new golem.GolemNetwork({
    api: { key },
    logger: silentLogger,
    ...(paymentNetwork !== undefined && { payment: { network: paymentNetwork } }),
    override: {
      yagna,
      paymentApi: new golem.PaymentApiAdapter(
        yagna,
        retryForever(new golem.InvoiceRepository(payment, market)),
        retryForever(new golem.DebitNoteRepository(payment, market)),
        silentLogger,
      ),
    },
  })
  try {
    await network.connect()
    return network
  } catch (error) {
    await network.disconnect().catch(() => {})
    throw error
  }
}

type Cancelable = Promise<unknown> & { cancel(): void }

/** A poll that fails takes its time. */
function delayFailedPolls<Name extends string>(
  api: Readonly<Record<Name, (...args: never[]) => unknown>>,
  name: Name,
): void {
  const call = api[name].bind(api) as (...args: unknown[]) => Cancelable
  const calmed = (...args: unknown[]): Cancelable => {
    const made = call(...args)
    const later = made.catch(async (error: Error) => {
      if (error.name !== 'CancelError') await sleep(RETRY_PAUSE)
      throw error
    })
    return Object.assign(later, { cancel: () => made.cancel() })
  }
  Object.assign(api, { [name]: calmed })
}

/** One that does not answer is asked again; what it rejects with would end the process. */
function retryForever<T>(repository: { getById(id: string): Promise<T> }) {
  return {
    async getById(id: string): Promise<T> {
      for (let tries = 1; tries < MAX_TRIES; tries++) {
        try {
          return await repository.getById(id)
        } catch {
          await sleep(RETRY_PAUSE)
        }
      }
      // It stays unpaid, as it would where the session had ended.
      return new Promise(() => {})
    },
  }
}
