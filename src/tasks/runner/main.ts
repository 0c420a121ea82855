/**
 * The program of a runner: `node main.js --num-tasks 4`, with HOST and PORT (or SOCKET_PATH) and MANYHOST_RUNNER_TOKEN in its
 * environment. USR1 drains it; USR2, TERM and INT stop it.
 */
import { parseArgs } from 'node:util'
import { describe } from '../../core/describe.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { every, resolveWithin, sleep } from '../../core/time.ts'
import { requireBytes } from '../../core/units.ts'
import { parseTaskDuration } from '../text/units.ts'
import type { RunnerOptions } from './options.ts'
import { Runner } from './runner.ts'
import { createRunnerServer } from './runner-server.ts'

/** As for the keys of HyperShell. */
const MIN_TOKEN_LENGTH = 16

const FLAGS = {
  'num-tasks': { type: 'string', short: 'N' },
  cores: { type: 'string', short: 'C' },
  memory: { type: 'string', short: 'M' },
  'backfill-timeout': { type: 'string' },
  template: { type: 'string', short: 't' },
  shell: { type: 'string' },
  cwd: { type: 'string' },
  timeout: { type: 'string', short: 'W' },
  signalwait: { type: 'string', short: 'S' },
  ratelimit: { type: 'string', short: 'R' },
  bundlesize: { type: 'string', short: 'b' },
  bundlewait: { type: 'string', short: 'w' },
  output: { type: 'string', short: 'o' },
  errors: { type: 'string', short: 'e' },
  'delay-start': { type: 'string', short: 'd' },
  'client-timeout': { type: 'string', short: 'T' },
  'no-capture': { type: 'boolean' },
  'no-token': { type: 'boolean' },
  monitor: { type: 'boolean' },
} as const

type Values = { [Name in keyof typeof FLAGS]?: string | boolean }

function parseRunnerFlags(values: Values): RunnerOptions {
  const options: Record<string, unknown> = {}
  const put = (name: string, flag: keyof Values, read: (text: string) => unknown = String) => {
    const value = values[flag]
    if (typeof value === 'string') options[name] = read(value)
  }
  put('numTasks', 'num-tasks', Number)
  put('cores', 'cores', Number)
  put('memory', 'memory', requireBytes)
  put('backfillTimeout', 'backfill-timeout', parseTaskDuration)
  put('template', 'template')
  put('shell', 'shell')
  put('cwd', 'cwd')
  put('timeout', 'timeout', parseTaskDuration)
  put('signalWait', 'signalwait', parseTaskDuration)
  put('rate', 'ratelimit', Number)
  put('bundleSize', 'bundlesize', Number)
  put('bundleWait', 'bundlewait', parseTaskDuration)
  put('output', 'output')
  put('errors', 'errors')
  put('clientTimeout', 'client-timeout', parseTaskDuration)
  if (values['no-capture']) options.capture = false
  if (values.monitor) options.monitor = true
  return options as RunnerOptions
}

/** Milliseconds of a text in seconds. A negative number gives a random delay up to it, so that a thousand runners do not start at once. */
function parseStartDelay(text: string): number {
  const seconds = Number(text)
  if (!Number.isFinite(seconds))
    throw invalidOption(`--delay-start must be a number of seconds, got ${describe(text)}`)
  return 1_000 * (seconds < 0 ? Math.random() * -seconds : seconds)
}

function readToken(values: Values): string | undefined {
  const token = process.env.MANYHOST_RUNNER_TOKEN
  if (values['no-token']) return undefined
  if (token === undefined || token.length < MIN_TOKEN_LENGTH) {
    throw invalidOption(
      `MANYHOST_RUNNER_TOKEN must have ${MIN_TOKEN_LENGTH} characters or more: without it, everybody who reaches the port could run commands (--no-token allows that)`,
    )
  }
  return token
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: FLAGS })
  const log = (line: string): void => void process.stderr.write(`${line}\n`)
  const token = readToken(values)
  const options = parseRunnerFlags(values)
  const startDelay = new AbortController()
  let runner: Runner | undefined
  const onSignal = (signal: NodeJS.Signals, action: 'drain' | 'stop'): void => {
    process.on(signal, () => {
      startDelay.abort()
      runner?.[action]()
    })
  }
  onSignal('SIGUSR1', 'drain')
  for (const signal of ['SIGUSR2', 'SIGTERM', 'SIGINT'] as const) onSignal(signal, 'stop')
  if (values['delay-start']) {
    const delayMs = parseStartDelay(values['delay-start'])
    log(`manyhost runner begins in ${delayMs / 1_000} s`)
    await sleep(delayMs, startDelay.signal).catch(() => {})
    if (startDelay.signal.aborted) return
  }
  runner = new Runner(options)
  const containment = await runner.prepare()
  const { server, close } = createRunnerServer(runner, { token, log })
  const { HOST = '127.0.0.1', PORT = '0', SOCKET_PATH } = process.env
  server.on('error', (error) => {
    log(`manyhost runner: ${describeError(error)}`)
    process.exitCode = 5
    runner?.stop()
  })
  const listenOn = SOCKET_PATH ? { path: SOCKET_PATH } : { host: HOST, port: Number(PORT) }
  server.listen(listenOn, () => {
    const address = server.address()
    const at = typeof address === 'object' ? `${address?.address}:${address?.port}` : address
    log(
      `manyhost runner ${runner?.id} listens on ${at}, ${runner?.settings.numTasks} tasks at a time, processes held by ${containment}`,
    )
  })
  const { clientTimeout } = runner.settings
  const idle = every(Math.min(1_000, clientTimeout || 1_000), () => {
    if (clientTimeout > 0 && runner && runner.idleMs >= clientTimeout) runner.drain()
  })
  await runner.drained
  idle.clear()
  // The clients have a moment to read the last answers.
  server.close()
  server.closeIdleConnections()
  await resolveWithin(1_000, new Promise((resolve) => server.once('close', resolve)))
  await runner.close()
  await close()
}

main().then(
  () => process.exit(),
  (error) => {
    process.stderr.write(`manyhost runner: ${describeError(error)}\n`)
    const isUsageError = error instanceof ManyhostError || /^ERR_PARSE_ARGS/.test(error?.code ?? '')
    process.exit(isUsageError ? 2 : 5)
  },
)
