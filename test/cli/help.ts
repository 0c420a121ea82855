/** Runs the built `manyhost` as a child process, as users do. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished, vi } from 'vitest'
import { waitUntil } from '../help.ts'

// A test here runs a dozen programs one after the other. Only a hang should reach this time.
vi.setConfig({ testTimeout: 120_000 })

const root = fileURLToPath(new URL('../../', import.meta.url))
const BIN = join(root, 'dist/src/cli/main.js')
export const CALCULATOR = join(root, 'examples/calculator-server.js')

export interface ProgramResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly input?: string
}

function environment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { MANYHOST_ADMIN: _, MANYHOST_TOKEN: __, FORCE_COLOR: ___, ...env } = process.env
  // The settings of the user who runs the tests must not have an effect.
  return { ...env, XDG_CONFIG_HOME: '/nowhere', ...extra }
}

/** Runs a command to its end. */
export async function runManyhost(
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  const child = startProgram(args, options)
  child.process.stdin?.end(options.input ?? '')
  return child.ended
}

export interface RunningProgram {
  readonly process: ChildProcess
  readonly ended: Promise<ProgramResult>
  /** What the program has written so far. */
  readonly stdout: () => string
  readonly stderr: () => string
  /** Resolves as soon as the program has written text that matches. */
  waitForOutput(pattern: RegExp, where?: 'stdout' | 'stderr'): Promise<RegExpExecArray>
}

export function startProgram(
  args: readonly string[],
  { env, cwd }: ProgramOptions = {},
): RunningProgram {
  const child = spawn(process.execPath, [BIN, ...args], { env: environment(env), cwd })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  onTestFinished(() => {
    if (child.exitCode === null) child.kill('SIGKILL')
  })
  // 'exit' can come before the last output, 'close' cannot.
  let isOver = false
  const ended = once(child, 'close').then(([code]) => {
    isOver = true
    return { code: code as number | null, stdout, stderr }
  })
  return {
    process: child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    async waitForOutput(pattern, where = 'stdout') {
      const found = await waitUntil(
        () => pattern.exec(where === 'stdout' ? stdout : stderr) ?? (isOver ? null : false),
        `${pattern} on ${where}`,
        () => ({ stdout, stderr }),
      )
      if (found) return found
      throw new Error(`it ended with ${child.exitCode} before ${pattern}: ${stdout}${stderr}`)
    },
  }
}

/** Creates a folder with these files, and removes it after the test. */
export function createFolder(files: Readonly<Record<string, string>> = {}): string {
  const path = mkdtempSync(join(tmpdir(), 'manyhost-cli-'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text)
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A fleet file with one calculator, on free ports. */
export function fleetYaml({ size = '1', more = '', admin = '', services = '' } = {}): string {
  return `services:
  http://calc:
    command: [${process.execPath}, ${CALCULATOR}]
    size: ${size}
    concurrency: 4
    ready: /health
${more}
${services}
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0${admin} }
`
}

export interface ServingProgram extends RunningProgram {
  readonly file: string
  readonly gateway: string
  readonly admin: string
}

/** Starts `manyhost serve` with this fleet file. Resolves when the first instance is ready. */
export async function startServe(
  text: string,
  args: readonly string[] = [],
  env = {},
): Promise<ServingProgram> {
  const file = join(createFolder({ 'fleet.yaml': text }), 'fleet.yaml')
  const started = startProgram(['serve', file, '--log', 'json', ...args], { env })
  const [line] = await started.waitForOutput(/^.*"msg":"serving .*$/m)
  const { gateway, dashboard } = JSON.parse(line) as Record<string, string>
  await started.waitForOutput(/"state":"ready"/)
  return {
    ...started,
    file,
    gateway: new URL(gateway as string).origin,
    admin: new URL(dashboard as string).origin,
  }
}

export interface RequestLoad {
  /** Stops, and resolves with the number of responses by status. A request without a response counts as `lost`. */
  stop(): Promise<Record<string, number>>
}

/** Sends requests from `clients` clients, each one after the other. */
export function startLoad(url: string, clients = 8): RequestLoad {
  const counts: Record<string, number> = {}
  let running = true
  const client = async (): Promise<void> => {
    while (running) {
      const kind = await fetch(url).then(
        async (response) => {
          await response.text()
          return String(response.status)
        },
        (error: Error) => `lost: ${(error.cause as Error | undefined)?.message ?? error.message}`,
      )
      counts[kind] = (counts[kind] ?? 0) + 1
      if (kind.startsWith('lost')) return
    }
  }
  const all = Promise.all(Array.from({ length: clients }, client))
  return {
    async stop() {
      running = false
      await all
      return counts
    },
  }
}
