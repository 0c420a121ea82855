/** Two manyhost peers, which end with the test that made them. */
import { afterEach } from 'vitest'
import {
  type DialOptions,
  dial,
  type NamesFor,
  serve,
  type WireEnds,
  type WireServeOptions,
  type WireServer,
} from '../../src/wire/index.ts'

/** What is to be ended after the test, last first. */
export const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

export async function listen(names: NamesFor, options: WireServeOptions = {}): Promise<WireServer> {
  const server = await serve({ port: 0, ...options }, names)
  closing.push(() => server.close())
  return server
}

export async function pair(
  names: NamesFor,
  options: { serve?: WireServeOptions; dial?: DialOptions; ours?: NamesFor } = {},
): Promise<WireEnds & { server: WireServer }> {
  const server = await listen(names, options.serve)
  const ends = await dial({ port: server.port, ...options.dial }, options.ours ?? {})
  closing.push(() => ends.po.disconnect())
  return { ...ends, server }
}

export const echo = { echo: (x: unknown) => x }
