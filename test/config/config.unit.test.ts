import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { starterConfig } from '../../src/config/starter.ts'
import { SERVICE_RULES } from '../../src/session/service.ts'
import { loadInvalid, loadText, PROVIDER_TYPES, serviceFile, VALID_FILE } from './config-fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'manyhost-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const of = (text: string) => loadText(text).services[0]

describe('a good file', () => {
  const config = loadText(VALID_FILE)

  it('says every option of a service that can be written', () => {
    const [calc] = config.services
    const inCode = Object.entries(SERVICE_RULES).filter(([, rule]) => !('form' in rule))
    expect(inCode.map(([name]) => name)).toEqual(['url', 'provider', 'fairness'])
    const said = { ...calc?.options, provider: calc?.provider }
    const elsewhere = ['fairness', 'image', 'minSize', 'maxSize']
    expect(Object.keys(said).sort()).toEqual(
      Object.keys(SERVICE_RULES)
        .filter((name) => !elsewhere.includes(name))
        .sort(),
    )
    expect(config).toMatchSnapshot()
  })

  it('has units, merged anchors, ranges and balancers', () => {
    expect(config.services[0]?.options).toMatchObject({
      drainTimeout: 60_000,
      timeout: 90_000,
      replayLimit: 2_097_152,
      maxQueue: Number.POSITIVE_INFINITY,
      initSize: 1,
      env: { LEVEL: '3', VERSION: '1.10', KEY: 'hunter2-token' },
      command: ['node', 'calculator.js', '8080', 'true'],
      cwd: '/srv/app',
    })
    expect(config.services.map(({ size }) => size)).toMatchObject([
      { balancer: 'target-in-flight', min: 1, max: 8, settings: { stableWindow: 30_000 } },
      { fixed: 4 },
      { balancer: 'queue-length', min: 0, max: 3 },
      { balancer: 'simple', max: 4, settings: { max: 4 } },
      { balancer: 'idle-to-zero', settings: { idleAfter: 300_000, active: 2 } },
      { balancer: 'queue-length', min: 1, max: Number.POSITIVE_INFINITY },
    ])
  })

  it('is the one of init', () => {
    expect(loadText(starterConfig()).services[0]?.options).toMatchObject({
      concurrency: 4,
      initSize: 2,
    })
  })

  it('finds commands from its own folder', () => {
    expect(of(serviceFile('command: [./run.sh]'))?.options).toMatchObject({
      command: ['/srv/run.sh'],
      cwd: '/srv',
    })
    expect(of(serviceFile('command: [/bin/x]', 'cwd: /tmp'))?.options).toMatchObject({
      command: ['/bin/x'],
      cwd: '/tmp',
    })
    const far = 'services: { http://a: { command: [./x], provider: remote } }\n'
    const error = loadInvalid(`${far}providers: { remote: {} }`)
    expect(error.message).toContain('providers.remote.key is missing')
    const remote = loadText(`${far}providers: { remote: { key: k } }`).services[0]
    expect(remote?.options.cwd).toBeUndefined()
  })

  it('has defaults for what it does not say', () => {
    const config = loadText('services: {}')
    expect(config).toMatchObject({
      file: '/srv/fleet.yaml',
      services: [],
      gateway: { listen: [{ host: '127.0.0.1', port: 8080 }], limits: { headerSize: 16_384 } },
      admin: { listen: [{ host: '127.0.0.1', port: 9090 }], token: undefined },
      log: { level: 'info', format: 'auto' },
      session: { tickInterval: 1_000, budget: undefined },
    })
    expect(loadText('services:\ngateway:\nadmin: false').admin).toBe(false)
  })
})

describe('what is put in', () => {
  it('is the environment, a default, a file, or the characters themselves', () => {
    writeFileSync(join(folder, 'secret'), 'from-file\n')
    writeFileSync(
      join(folder, 'fleet.yaml'),
      serviceFile(
        'command: [sh, -c, "echo $${HOME} ${SIZE:-9} ${NONE:-a b} ${EMPTY:-x}"]',
        'size: ${SIZE}',
        'env: { S: "${file:secret}", T: "a${SIZE}b" }',
        'gateway: { waitingPage: "${MODE}" }',
      ),
    )
    const env = { SIZE: '4', EMPTY: '', MODE: 'true' }
    const [calc] = loadConfig(join(folder, 'fleet.yaml'), env, PROVIDER_TYPES).services
    expect(calc?.options.command?.[2]).toBe('echo ${HOME} 4 a b x')
    expect(calc).toMatchObject({ size: { fixed: 4 }, gateway: { waitingPage: true } })
    expect(calc?.options.env).toEqual({ S: 'from-file', T: 'a4b' })
    expect(calc?.options.cwd).toBe(folder)
  })

  it('is reported where it is missing', () => {
    const { problems } = loadInvalid(
      serviceFile('command: ["${NOPE}", "${file:nope}", "${9}", "${a", "${file:/dev/zero}"]'),
    )
    expect(problems.map(({ message }) => message)).toEqual([
      expect.stringContaining('environment variable NOPE, which is not set'),
      expect.stringContaining('/srv/nope, which cannot be read: ENOENT'),
      expect.stringContaining('none of ${NAME}'),
      expect.stringContaining('not closed'),
      expect.stringContaining('it is not a regular file'),
    ])
  })

  it('is never shown, nor is any secret', () => {
    const texts = [
      serviceFile(
        'command: [a]',
        'concurrency: ${TOKEN}',
        'size: ${TOKEN}',
        'hedge: { after: "${TOKEN}" }',
      ),
      serviceFile(
        'command: [a]',
        'onStop: ${TOKEN}',
        'gateway: { hosts: ["${TOKEN}/"], path: "${TOKEN}" }',
      ),
      serviceFile(
        'command: [a]',
        'gateway: { auth: { bearer: [hunter2 a, "b"], basic: hunter2 } }',
      ),
      serviceFile(
        'command: [a]',
        'gateway: { auth: { bearer: hunter2, basic: { a: hunter2 b, c: [hunter2] } } }',
      ),
      serviceFile('command: [a]', 'gateway: { auth: hunter2 }', 'pasword: hunter2'),
      'services: {}\nadmin: { token: hunter2, token: hunter2b, listen: x }',
      'services: {}\nadmin: { tokn: hunter2, listen: 9 }\nlog: hunter',
      'services: {}\nadmin:\n  token: "hunter2\n  listen: 3',
      'services: {}\nadmin: { token: hunter2 }}',
      'services: {}\nproviders: { s: { type: static, urls: "${TOKEN}" } }',
      'services: {}\nproviders: { s: { type: "${TOKEN}" }, t: { type: remote, key: [hunter2], zone: "${TOKEN}" } }',
      'services: {}\ngateway: { tls: { cert: "${TOKEN}", key: "${TOKEN}" }, listen: "${TOKEN}" }',
      'services: {}\nadmin: { token: { hunter2: hunter2 } }',
    ]
    for (const text of texts) {
      const error = loadInvalid(text)
      const shown = JSON.stringify([error.problems, error.message])
      // A key that is a secret cannot be known as one.
      expect(shown.replaceAll('{ hunter2:', ''), text).not.toContain('hunter2')
    }
  })
})

describe('a file that cannot be read', () => {
  it.each([
    ['/nowhere/fleet.yaml', 'ENOENT'],
    ['/tmp', 'it is not a regular file'],
    ['/dev/zero', 'it is not a regular file'],
  ])('%s', (path, why) => {
    expect(() => loadConfig(path, {})).toThrow(why)
    expect(() => loadConfig(path, {})).toThrow(`${path}: the file cannot be read`)
  })

  it.each(['', '\n# nothing\n', '---\n'])('is empty: %j', (text) => {
    expect(loadInvalid(text).message).toMatch(/empty|services is missing/)
  })

  it('is too large, too deep, or laughs', () => {
    expect(loadInvalid(`#${'x'.repeat(1_100_000)}`).message).toContain('larger than 256 KiB')
    expect(loadInvalid('['.repeat(100_000)).message).toMatch(/nested/)
    expect(loadInvalid(`services: ${'{a: '.repeat(200)}1${'}'.repeat(200)}`).message).toMatch(
      /nested/,
    )
    const lines = ['x0: &x0 [a, a]']
    for (let i = 1; i < 40; i++) lines.push(`x${i}: &x${i} [${`*x${i - 1}, `.repeat(9)}]`)
    const laugh = lines.map((line) => `  ${line}`).join('\n')
    const error = loadInvalid(
      `services:\nproviders:\n ${laugh.slice(1)}\n  s: { type: static, urls: *x39 }`,
    )
    expect(error.message).toContain('aliases counted each time')
    const merges = `x-a: &a {${Array.from({ length: 500 }, (_, i) => `k${i}: 1`)}}\n`
    const many = `x-b: { <<: [${'*a, '.repeat(1_000)}] }\nservices: {}`
    expect(loadInvalid(merges + many).message).toContain('copies more than')
  })

  it('has aliases in circles, or of nothing', () => {
    expect(loadInvalid('services: &a { http://a: *a }').message).toContain('inside its own anchor')
    expect(loadInvalid('services: *b').message).toContain("'*b' has no anchor before it")
    expect(loadInvalid('services: {}\nadmin: { listen: *:80 }').message).toContain('needs quotes')
  })
})
