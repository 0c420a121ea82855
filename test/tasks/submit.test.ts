/** `submitFrom`: a source into a store, until its signal says so. */
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { openStore, type Store, submitFrom } from '../../src/tasks.ts'
import { falseClock } from '../clock.ts'

describe('submitFrom', () => {
  async function store(): Promise<Store> {
    return openStore(':memory:')
  }

  it('is stopped by its signal: what was read is handed in, half a line is not', async () => {
    const kept = await store()
    const source = new PassThrough()
    const stopping = new AbortController()
    const { pass } = falseClock()
    const submitted = submitFrom(source, {
      store: kept,
      signal: stopping.signal,
      bundleWait: 3_600_000,
    })
    source.write('rm -r /tmp/x\nrm -r /')
    await pass(1_000)
    expect(await kept.count()).toBe(0)
    stopping.abort()
    expect((await submitted).count).toBe(1)
    expect(await kept.count({ where: ["args == 'rm -r /tmp/x'"] })).toBe(1)
    await kept.close()
  })

  it('reads no further when its signal came before', async () => {
    const kept = await store()
    const signal = AbortSignal.abort()
    expect((await submitFrom(['a', 'b'], { store: kept, signal })).count).toBeLessThan(2)
    expect((await submitFrom(new PassThrough(), { store: kept, signal })).count).toBe(0)
    await kept.close()
  })
})
