/** A fake of the yagna daemon, and providers that use it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { type GolemOptions, golem } from '../../../providers/golem/index.ts'
import type { Provider } from '../../../src/core/provider.ts'
import { Yagna } from '../../fakes/yagna/daemon.ts'
import type { Node } from '../../fakes/yagna/market.ts'

export const KEY = 'the-app-key-that-nobody-may-see'

/** As a tag is written; the fake runs the same for all. */
export const image = 'manyhost/test:latest'

/** Other runs of these tests have another one. */
const port = 20_000 + (process.pid % 10_000)

let networks = 0

/**
 * A range of its own for each provider. On the market private networks do not see each other; here all are on one
 * machine, and where two had the same range, the instance of one answered to the readiness check of the other's, which
 * had just ended because its address was in use.
 */
function vpn(): string {
  networks++
  return `127.${64 + (process.pid % 128)}.${networks % 256}.0/24`
}

export const command = ['node', resolve('test/fakes/conformance-server.mjs')]

export function nodes(count: number, part: Partial<Node> = {}): Node[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `0x${String(index).padStart(40, '0')}`,
    name: `node-${index}`,
    // The first is the cheapest; all of them are far below what is offered.
    prices: [0.00001, 0.00001, 0.001 * (index + 1)] as const,
    ...part,
  }))
}

export interface Faked {
  yagna: Yagna
  volume: string
  provider(options?: Partial<GolemOptions>): Provider
}

/** Begins before the tests of a file, and ends after them. */
export function faked(given: readonly Node[] = nodes(60)): Faked {
  const volume = mkdtempSync(join(tmpdir(), 'manyhost-golem-volume-'))
  const yagna = new Yagna({ key: KEY, volume, nodes: given })
  let url = ''
  beforeAll(async () => {
    url = await yagna.listen()
    process.env.YAGNA_APPKEY = KEY
    process.env.GOLEM_REGISTRY_URL = url
  })
  // Also those of a test that has failed: what they rent would be in the way of the next one.
  const made = new Set<Provider>()
  afterEach(async () => {
    await Promise.all([...made].map((provider) => provider.close?.()))
    made.clear()
  })
  afterAll(() => {
    yagna.close()
    rmSync(volume, { recursive: true, force: true })
  })
  return {
    yagna,
    volume,
    provider: (options = {}) => {
      const provider = golem({
        budget: 10,
        url,
        image,
        vpn: vpn(),
        port,
        listen: 'address',
        volume,
        watch: 400,
        paymentTimeout: 10_000,
        ...options,
      })
      made.add(provider)
      return provider
    },
  }
}
