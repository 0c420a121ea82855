/**
 * The gateway between a client and an instance that send what a grammar of HTTP, with faults, draws: 500 exchanges.
 *
 * - `MANYHOST_FUZZ=20000 npx vitest run --project integration test/gateway/fuzz.test.ts` runs so many (the nightly form).
 * - `MANYHOST_FUZZ_SEED=7` begins at another place. Each connection has its own seed, counted up from there: a failure
 *   prints it with all bytes, and `MANYHOST_FUZZ=1 MANYHOST_FUZZ_SEED=<it>` repeats that connection alone.
 */
import { afterEach, expect, test } from 'vitest'
import { expectNothingLeft } from '../leftovers.ts'
import { planConnection } from './fuzz-plan.ts'
import { openFuzzSetup } from './fuzz-run.ts'
import { cleanUp } from './gateway-fixture.ts'

expectNothingLeft()

const EXCHANGES = Number(process.env.MANYHOST_FUZZ ?? 500)
const SEED = Number(process.env.MANYHOST_FUZZ_SEED ?? 1)
/** Connections at a time. */
const AT_ONCE = 16
/** Failures that are printed. */
const MOST = 10

const strays: string[] = []
const onStray = (error: unknown): void => void strays.push(String((error as Error)?.stack ?? error))

afterEach(async () => {
  process.off('uncaughtException', onStray)
  process.off('unhandledRejection', onStray)
  await cleanUp()
})

test(
  'no exchange crashes, hangs or leaks; none is executed too often, or answered with what belongs to another',
  async () => {
    process.on('uncaughtException', onStray)
    process.on('unhandledRejection', onStray)
    const { run, settle } = await openFuzzSetup()
    const failures: string[] = []
    let exchanges = 0
    for (let seed = SEED; exchanges < EXCHANGES && failures.length < MOST; seed += AT_ONCE) {
      const count = EXCHANGES === 1 ? 1 : AT_ONCE
      const plans = Array.from({ length: count }, (_, index) => planConnection(seed + index))
      for (const wrong of await Promise.all(plans.map(run))) if (wrong) failures.push(wrong)
      const left = await settle()
      const where = `seeds ${seed} to ${seed + count - 1}`
      if (left) failures.push(`${where}: ${left}`)
      for (const stray of strays.splice(0)) failures.push(`${where}: uncaught: ${stray}`)
      if (left) break
      for (const { requests } of plans) exchanges += requests.length
    }
    expect(failures.join('\n\n')).toBe('')
  },
  120_000 + EXCHANGES * 60,
)
