/** `manyhost agent` as its users run it: beside `manyhost serve`, and encrypted. */
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type AgentsProvider, agents } from '../../providers/agent/index.ts'
import { certificate } from '../fakes/certificate.ts'
import { waitUntil } from '../help.ts'
import { waitForAgents } from '../providers/agent/help.ts'
import { CALCULATOR, createFolder, type RunningProgram, startProgram } from './help.ts'

const KEY = 'a key of this very test'

function opened(options: Parameters<typeof agents>[0] = {}): AgentsProvider {
  const provider = agents({ listen: 'localhost:0', evictAfter: 60_000, key: KEY, ...options })
  onTestFinished(() => provider.close?.())
  return provider
}

function agent(address: string, flags: readonly string[], env = {}): RunningProgram {
  const args = ['agent', '--connect', address, '--max-instances', '2', ...flags]
  return startProgram(args, { env: { MANYHOST_AGENT_KEY: KEY, ...env } })
}

async function says(one: RunningProgram, pattern: RegExp): Promise<void> {
  await waitUntil(() => pattern.test(one.stderr()), `${pattern} is said`)
}

async function ends(one: RunningProgram): Promise<number | null> {
  one.process.kill('SIGTERM')
  return (await one.ended).code
}

describe('with `manyhost serve`', { timeout: 120_000 }, () => {
  it('serves what its file says, with names relative to it; both are told who came and went', async () => {
    const home = createFolder({ 'agent.key': `${KEY}\n` })
    const files = certificate(home, 'localhost')
    const text = `providers:
  lab:
    type: agent
    listen: localhost:0
    keyFile: agent.key
    certFile: localhost.crt
    certKeyFile: localhost.key
    evictAfter: 60s
services:
  http://calc:
    command: [${process.execPath}, ${CALCULATOR}]
    provider: lab
    size: 2
    concurrency: 4
    ready: /health
    labels: { require.gpu: '*' }
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0 }
`
    writeFileSync(join(home, 'fleet.yaml'), text)
    const served = startProgram(['serve', join(home, 'fleet.yaml'), '--log', 'json'])
    const [, address = ''] = await served.waitForOutput(/"agents":"([^"]+)"/)
    const { fingerprint256: fingerprint } = new X509Certificate(readFileSync(files.cert))
    const flags = ['--fingerprint', fingerprint, '--key-file', join(home, 'agent.key')]

    const stranger = agent(address, ['--fingerprint', fingerprint], {
      MANYHOST_AGENT_KEY: 'quite another key than that',
    })
    expect(await stranger.ended).toMatchObject({ code: 6 })
    await served.waitForOutput(/"level":"warn".*an agent was refused: .*could not prove/)

    const far = agent(address, [...flags, '--name', 'attic', '--label', 'gpu=a100'], {
      MANYHOST_AGENT_KEY: '',
    })
    await served.waitForOutput(/"msg":"agent attic: came"/)
    await served.waitForOutput(/"msg":"http:\/\/calc: calc-\w+-2 is ready"/)
    const [, gateway] = await served.waitForOutput(/"gateway":"([^"]+)"/)
    const sums = Array.from({ length: 40 }, async (_, i) =>
      (await fetch(new URL(`add/${i}/2`, gateway))).text(),
    )
    expect(await Promise.all(sums)).toEqual(Array.from({ length: 40 }, (_, i) => String(i + 2)))
    const [, admin] = await served.waitForOutput(/"metrics":"([^"]+)"/)
    const metrics = await (await fetch(admin as string)).text()
    expect(metrics).toContain('manyhost_agent_agents{state="up"} 1')
    expect(metrics).toContain('manyhost_agent_places{state="taken"} 2')
    await says(far, /^started .*calc-\w+-[12] at http:\/\/127\.0\.0\.1:\d+$/m)

    expect(await ends(far)).toBe(0)
    await served.waitForOutput(/"reason":"SIGTERM","msg":"agent attic: leaves"/)
    await served.waitForOutput(/"msg":"agent attic: left"/)
    served.process.kill('SIGTERM')
    expect(await served.ended).toMatchObject({ code: 0, stderr: '' })
    expect(served.stdout()).not.toContain(KEY)
  })

  it('says why agents cannot dial', async () => {
    const text = `providers:
  lab: { type: agent, listen: 'unix:/no/such/folder/hub.sock', keyFile: agent.key }
services:
  http://calc: { command: [node, x.js], provider: lab, size: 0 }
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0 }
`
    const file = join(createFolder({ 'fleet.yaml': text, 'agent.key': KEY }), 'fleet.yaml')
    const served = startProgram(['serve', file, '--log', 'json'])
    await served.waitForOutput(
      /"level":"error".*agents cannot dial: .*\/no\/such\/folder\/hub\.sock/,
    )
  })
})

describe('encrypted', { timeout: 120_000 }, () => {
  const tlsOf = (name: string) => {
    const files = certificate(createFolder(), name)
    return { ...files, options: { certFile: files.cert, certKeyFile: files.key } }
  }

  it('--ca-file: by who has signed the certificate of the hub', async () => {
    const { cert, options } = tlsOf('localhost')
    const provider = opened(options)
    const one = agent(await provider.address(), ['--ca-file', cert])
    await waitForAgents(provider)
    expect(await ends(one)).toBe(0)
  })

  it('--ca-file: a certificate for another name is refused', async () => {
    const { cert, options } = tlsOf('elsewhere')
    const provider = opened(options)
    const one = agent(await provider.address(), ['--ca-file', cert])
    await says(one, /^lost .*(does not match|altnames)/im)
    expect(provider.agents).toEqual([])
    expect(await ends(one)).toBe(0)
  })

  it('--tls: by the authorities that the machine knows', async () => {
    const { cert, options } = tlsOf('localhost')
    const provider = opened(options)
    const address = await provider.address()
    const unknowing = agent(address, ['--tls'])
    await says(unknowing, /^lost .*self.signed/im)
    expect(provider.agents).toEqual([])
    expect(await ends(unknowing)).toBe(0)
    const knowing = agent(address, ['--tls'], { NODE_EXTRA_CA_CERTS: cert })
    await waitForAgents(provider)
    expect(await ends(knowing)).toBe(0)
  })

  it('neither of them: nothing that the hub understands, and it says so', async () => {
    const provider = opened(tlsOf('localhost').options)
    let refused = 0
    provider.on('refused', () => refused++)
    const one = agent(await provider.address(), [])
    await says(one, /^lost /m)
    await waitUntil(() => refused > 0)
    expect(provider.agents).toEqual([])
    expect(await ends(one)).toBe(0)
  })

  it('another machine without any of them is refused before anything is dialled', async () => {
    const one = agent('hub.example.org:4747', [])
    expect(await one.ended).toMatchObject({ code: 2, stdout: '' })
    expect(one.stderr()).toMatch(/--tls|--insecure|insecure/)
  })
})

describe('several keys', { timeout: 120_000 }, () => {
  const keys: Readonly<Record<string, string>> = {
    attic: 'the key of the attic alone',
    cellar: 'the key of the cellar alone',
  }

  it('each agent has its own, found by its name; that of another opens nothing', async () => {
    const provider = opened({ key: (name) => (name === undefined ? undefined : keys[name]) })
    const address = await provider.address()
    const refused: Error[] = []
    provider.on('refused', (error) => refused.push(error))
    for (const [name, key] of [
      ['attic', keys.cellar],
      ['nobody', keys.attic],
    ] as const) {
      const sly = agent(address, ['--name', name], { MANYHOST_AGENT_KEY: key })
      expect((await sly.ended).code).toBe(6)
    }
    await waitUntil(() => refused.length >= 2)
    const own = Object.entries(keys).map(([name, key]) =>
      agent(address, ['--name', name], { MANYHOST_AGENT_KEY: key }),
    )
    await waitForAgents(provider, 2)
    expect(provider.agents.map(({ name }) => name).toSorted()).toEqual(['attic', 'cellar'])
    for (const one of own) expect(await ends(one)).toBe(0)
  })
})
