/** Placement, the fingerprint of the hub's certificate, and options that are refused. */
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { agents, runAgent } from '../../../providers/agent/index.ts'
import { processes } from '../../../providers/process/index.ts'
import { certificate } from '../../fakes/certificate.ts'
import { catchThrown, rejectionOf, service, waitUntil } from '../../help.ts'
import { get, specOf } from '../process-help.ts'
import { here, opened, serving, unending } from './auto-closed.ts'
import { KEY, waitForAgents } from './help.ts'

describe('placement', () => {
  it('waits while no agent has capacity, says so in the output, and goes on when one has', async () => {
    const provider = opened()
    const address = await provider.address()
    const spec = specOf({ command: service, labels: { 'require.gpu': 'a100' } })
    const starting = provider.start(spec, { signal: unending })
    await waitUntil(() => spec.output.includes('no agent is connected'))
    here(address, { maxInstances: 1 })
    await waitForAgents(provider)
    const over = new AbortController()
    const impatient = specOf({ command: service, labels: { 'require.gpu': 'a100' } })
    const refused = rejectionOf(provider.start(impatient, { signal: over.signal }))
    await waitUntil(() => impatient.output.includes('waits for an agent'))
    over.abort(new Error('enough'))
    expect((await refused).message).toContain(
      'enough; no agent has capacity for it: 1 without gpu=a100',
    )
    here(address, { maxInstances: 1, name: 'other', labels: { gpu: 'a100' } })
    const running = await starting
    expect(running.address).toContain('on other')
    const next = specOf({ command: service, labels: { 'require.gpu': '*' } })
    const second = provider.start(next, { signal: unending })
    await waitUntil(() => next.output.includes('full'))
    await running.stop(0)
    await (await second).stop(0)
  })
})

describe('encrypted', () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-agent-tls-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const files = certificate(folder, 'localhost')
  const cert = readFileSync(files.cert, 'utf8')
  const tls = { certFile: files.cert, certKeyFile: files.key }

  it('an agent that knows the fingerprint of the certificate connects, and tunnels work', async () => {
    const provider = opened(tls)
    const { fingerprint256: fingerprint } = new X509Certificate(cert)
    here(await provider.address(), { tls: { fingerprint } })
    const running = await serving(provider, { concurrency: 3 })
    const answers = await Promise.all([1, 2, 3].map(() => get(running.dispatcher, '/pid')))
    expect(new Set(answers).size).toBe(1)
  })

  it('an agent refuses a certificate with another fingerprint', async () => {
    const provider = opened(tls)
    const ended = runAgent({
      address: await provider.address(),
      key: KEY,
      tls: { fingerprint: `sha256:${'00'.repeat(32)}` },
    })
    expect(await rejectionOf(ended)).toMatchObject({ code: 'MANYHOST_WIRE_AUTH' })
  })
})

describe('options', () => {
  it.each([
    [{}, /key or keyFile/],
    [{ key: 'short' }, /16 bytes/],
    [{ key: KEY, listen: '0.0.0.0:1' }, /insecure/],
    [{ key: KEY, listen: 'nowhere' }, /host:port/],
    [{ key: KEY, evictAfter: 10 }, /two beats/],
    [{ key: KEY, keyFile: 'x' }, /not both/],
    [{ keyFile: '/no/such' }, /cannot be read/],
    [{ key: KEY, certFile: 'x' }, /given together/],
    [{ key: KEY, colour: 'red' }, /unknown option 'colour'/],
  ])('%j is refused', (options, message) => {
    const error = catchThrown(() => agents(options as never))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toMatch(message)
  })

  it.each([
    [{}, /key/],
    [{ key: KEY, maxInstances: 0 }, /maxInstances/],
    [{ key: KEY, address: '10.0.0.1:1' }, /insecure/],
    [{ key: KEY, labels: 7 }, /labels/],
  ])('an agent with %j is refused', async (options, message) => {
    const error = await rejectionOf(runAgent(options as never))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toMatch(message)
  })

  it('a provider that was given to an agent is not closed by the agent', async () => {
    const local = processes()
    const provider = opened()
    const agent = here(await provider.address(), { provider: local })
    await serving(provider)
    await agent.end()
    const spec = specOf({ command: service })
    await (await local.start(spec, { signal: unending })).stop(0)
    await local.close?.()
  })
})
