import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Dispatcher } from 'undici'
import type { StartSpec } from '../../src/core/provider.ts'

export { waitUntil } from '../help.ts'

export const server = resolve('test/fakes/process-server.mjs')

let count = 0

/** A spec with a fresh id; what it writes is added to `output`. */
export function specOf(part: Partial<StartSpec> = {}): StartSpec & { output: string } {
  const spec = {
    id: `test-${process.pid}-${++count}`,
    service: 'http://calc',
    env: {},
    labels: {},
    concurrency: 1,
    output: '',
    onOutput: (text: string) => {
      spec.output += text
    },
    ...part,
  }
  return spec
}

/** Whether the process runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Pids of the processes that have `text` in their command line or environment. */
export function pidsWith(text: string, file: 'cmdline' | 'environ' = 'environ'): number[] {
  const has = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(text)
    } catch {
      return false
    }
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && has(name))
    .map(Number)
}

/** What the environment of a process tells its guard by. */
export function markerOf(pid: number): string {
  const found = /MANYHOST_SESSION=(\w+)/.exec(readFileSync(`/proc/${pid}/environ`, 'utf8'))
  if (!found?.[1]) throw new Error(`process ${pid} has no marker`)
  return found[1]
}

export async function get(dispatcher: Dispatcher, path: string): Promise<string> {
  const { body } = await dispatcher.request({ path, method: 'GET' })
  return body.text()
}

/** Providers as JavaScript, for scripts that plain Node runs: it reads no TypeScript before 22.18. */
export async function buildProviders(): Promise<string> {
  const cache = resolve('node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'manyhost-providers-'))
  // Below node_modules the package's own `type` does not count.
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  const options = ['-p', 'tsconfig.build.json', '--noCheck', '--declaration', 'false']
  await promisify(execFile)('node_modules/.bin/tsc', [...options, '--outDir', folder])
  return folder
}
