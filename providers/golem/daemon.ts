/**
 * The connection to the yagna daemon. A program must not end because its daemon is away for some time, and golem-js 3.6
 * does three things that this file, or demand.ts, replaces:
 * 1. A bill that cannot be fetched is thrown where nobody can catch it, which ends the process.
 * 2. So does the end of a long poll for offers; demand.ts polls by itself.
 * 3. A poll for events that fails is made again at once, without a pause.
 */
import { sleep } from '../../src/core/time.ts'
import type { GolemSettings } from './options.ts'
import { type Golem, type GolemPackages, silentLogger } from './packages.ts'

/** The pause between two tries, in ms. */
const RETRY_PAUSE = 1_000

/** Number of tries to fetch a bill. */
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

/** Makes a poll that fails take `RETRY_PAUSE` longer, so that golem-js does not poll without a pause. */
function delayFailedPolls<Name extends string>(
  api: Readonly<Record<Name, (...args: never[]) => unknown>>,
  name: Name,
): void {
  const call = api[name].bind(api) as (...args: unknown[]) => Cancelable
  const delayed = (...args: unknown[]): Cancelable => {
    const poll = call(...args)
    const later = poll.catch(async (error: Error) => {
      if (error.name !== 'CancelError') await sleep(RETRY_PAUSE)
      throw error
    })
    return Object.assign(later, { cancel: () => poll.cancel() })
  }
  Object.assign(api, { [name]: delayed })
}

/** A repository that asks again instead of rejecting, because a rejection would end the process. */
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
      // The bill stays unpaid, as if the session had ended.
      return new Promise(() => {})
    },
  }
}
