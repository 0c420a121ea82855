/**
 * Vitest's global setup: compiles the sources before the tests if `dist` is missing or older than a source. Tests of the
 * CLI, of runners and of the store's thread start compiled programs, so `npx vitest run X` would test old code otherwise.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { TestProject } from 'vitest/node'

const root = resolve(import.meta.dirname, '..')

/** Compiled sources, and what decides how they are compiled. */
const INPUTS = ['src', 'providers', 'package.json', 'tsconfig.json', 'tsconfig.build.json']

/** The last thing that a build writes, so an interrupted build counts as none. */
const LAST_OUTPUT = join(root, 'dist/src/gateway/dashboard/index.html')

function newestIn(path: string): number {
  const found = statSync(path)
  if (!found.isDirectory()) return found.mtimeMs
  const inside = readdirSync(path).map((name) => newestIn(join(path, name)))
  // The folder's own time changes when a file in it is removed or renamed.
  return Math.max(found.mtimeMs, ...inside)
}

function isStale(): boolean {
  const built = statSync(LAST_OUTPUT, { throwIfNoEntry: false })
  if (!built) return true
  return INPUTS.some((input) => newestIn(join(root, input)) > built.mtimeMs)
}

function buildIfStale(): void {
  if (!isStale()) return
  console.log('dist is older than the sources: npm run build')
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: 'inherit' })
}

export default function setup(project: TestProject): void {
  buildIfStale()
  project.onTestsRerun(async () => buildIfStale())
}
