/** Files and helpers that the tests of the configuration share. */
import { type Config, type LoadConfigOptions, loadConfig } from '../../src/config/config.ts'
import { ConfigError } from '../../src/config/problem.ts'
import { milliseconds, oneOf, rule } from '../../src/core/options.ts'

const ENV = { TOKEN: 'hunter2-token', SIZE: '4', EMPTY: '', MODE: 'true' }

const SECRET = rule<string>(
  'a text',
  undefined,
  (value) => (typeof value === 'string' ? value : undefined),
  { is: 'text', secret: true },
)

export const PROVIDER_TYPES = {
  providers: {
    process: { needsCommand: true, parse: () => {} },
    remote: {
      local: false,
      rules: { wait: milliseconds(1_000), zone: oneOf(['a', 'b'], 'a'), key: SECRET },
      required: ['key'],
    },
    static: { parse: (options: { urls?: unknown }) => refuseUnlessList(options.urls) },
  },
} satisfies LoadConfigOptions

function refuseUnlessList(urls: unknown): void {
  if (!Array.isArray(urls)) {
    throw new ConfigError([
      { file: '', line: 0, column: 0, path: '', message: `urls: ${String(urls)}`, snippet: '' },
    ])
  }
}

/** All that can be said. */
export const VALID_FILE = `# yaml-language-server: $schema=../schema/fleet.schema.json
x-calm: &calm
  drainTimeout: 1m
  health: { path: /health, interval: 2s, threshold: 2 }
providers:
  near: { type: process }
  far: { type: remote, wait: 2s, zone: b, key: "\${TOKEN}" }
  static: { urls: ["http://10.0.0.1:80", "http://10.0.0.2:80"] }
services:
  http://calc:
    <<: *calm
    command: [node, calculator.js, 8080, true]
    provider: near
    size: { balancer: target-in-flight, min: 1, max: 8, target: 3, stableWindow: 30s }
    concurrency: 4
    maxStarting: 3
    ready: /ready
    startTimeout: 90s
    stopGrace: 0
    slowStart: 500ms
    queueTimeout: 10s
    maxQueue: unlimited
    timeout: 1.5m
    attemptTimeout: 20000
    resend: idempotent
    maxAttempts: 3
    ejectAfter: 2
    replayLimit: 2MiB
    holdLimit: 512KiB
    headerSize: 128KiB
    hedge: { after: p95 }
    balance: peak-ewma
    onStop: ignore
    listen: unix
    env: { MODE: production, LEVEL: 3, VERSION: 1.10, KEY: "\${TOKEN}" }
    cwd: app
    labels: { team: blue }
    resources: { cpus: 0.5, memory: 256MiB }
    gateway:
      hosts: [calc.example.com]
      path: /c
      strip: false
      auth: { bearer: ["\${TOKEN}"], basic: { ann: "\${TOKEN}" } }
      cors: { origins: ["https://example.com"], methods: [GET, POST], credentials: true, maxAge: 1h }
      waitingPage: true
      serverTiming: true
      priorityHeader: true
  https://plain/v2: { image: abc, provider: far, size: "\${SIZE:-1}" }
  http://ranged: { size: 0..3, minSize: 0, maxSize: 9, provider: static }
  http://simple: { size: { balancer: simple, max: 4, interval: 5s }, provider: static }
  http://idle: { size: { balancer: idle-to-zero, idleAfter: 5m, active: 2 }, provider: static }
  http://queue: { size: { min: 1, perInstance: 2.5, scaleDownDelay: 10s }, provider: static }
session: { provider: near, tickInterval: 500ms, budget: { instances: 20 } }
gateway:
  listen: ["127.0.0.1:8080", "[::1]:8080", 9000, "unix:/run/manyhost.sock"]
  http2: false
  trustedProxies: [10.0.0.0/8, "::1", 192.168.1.1]
  limits: { headerSize: 32KiB, headerCount: 50, headerTime: 5s, bodySize: 1GiB, bodyRate: 1kB, answerRate: 2kB, tunnelLinger: 20s, connections: 1000, keepAlive: 5s }
  forwarded: false
  pathRouting: false
  shutdownDelay: 5s
  drainTimeout: 1m
admin: { listen: 0.0.0.0:9090, token: "\${TOKEN}" }
feed:
  listen: ["127.0.0.1:20000", "unix:/run/feed.sock"]
  name: events
  identities: { ann: { secret: "\${TOKEN}", publish: [a], subscribe: [a, b], owner: Ann } }
  identitiesFile: people.yaml
  patterns: true
  connections: 500
  authTimeout: 5s
  bufferLimit: 4MiB
  deadline: 30s
  nonceSize: 20
  history: 100
  historyBytes: 64KiB
  closeTimeout: 0
  http: false
log: { level: debug, format: json }
`

export function loadText(text: string, env: Record<string, string> = ENV): Config {
  return loadConfig({ text, path: '/srv/fleet.yaml' }, env, PROVIDER_TYPES)
}

/** The error of a file that is refused. */
export function loadInvalid(text: string, env: Record<string, string> = ENV): ConfigError {
  try {
    loadText(text, env)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  throw new Error(`this was not refused:\n${text}`)
}

/** A file of one service with these lines. */
export function serviceFile(...lines: string[]): string {
  return ['services:', '  http://calc:', ...lines.map((line) => `    ${line}`), ''].join('\n')
}
