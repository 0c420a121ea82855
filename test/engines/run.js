/**
 * `npm run test:engines -- [names] [-- arguments of vitest]`: tests against real programs of others. Installs those that
 * are missing, runs one engine after the other, and ends with a table. A package mirror that does not answer is said
 * loudly and is no failure; an engine that runs and fails a test is one.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ENGINES } from './list.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Longest that one engine's tests may take, in ms, and all of them. */
const ENGINE_TIMEOUT = 480_000
const TIMEOUT = 1_500_000
/** Longest that a package mirror may take, in ms. */
const INSTALL_TIMEOUT = 420_000
/** Longest that one that no package ships may take to build, in ms, and where it is kept. */
const BUILD_TIMEOUT = 2_400_000
const CACHE = join(homedir(), '.cache/manyhost-test')

const words = process.argv.slice(2)
const split = words.indexOf('--')
const asked = split < 0 ? words : words.slice(0, split)
/** `kubernetes-build`: that engine, built before if it is not there. */
const toBuild = ENGINES.filter(({ name, built }) => built && asked.includes(`${name}-build`))
const names = asked.map(
  (word) => toBuild.find(({ name }) => word === `${name}-build`)?.name ?? word,
)
const vitestArgs = split < 0 ? [] : words.slice(split + 1)

const unknown = names.filter((name) => !ENGINES.some((engine) => engine.name === name))
if (unknown.length > 0) {
  const known = ENGINES.flatMap(({ name, built }) => (built ? [name, `${name}-build`] : name)).join(
    ', ',
  )
  console.error(`no engine ${unknown.join(', ')}; there are ${known}`)
  process.exit(2)
}
const wanted = ENGINES.filter(({ name, byName }) =>
  names.length > 0 ? names.includes(name) : !byName,
)

/** Whether a program can be run; daemons lie where a user's PATH may not lead. */
function isThere(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Runs a command in a process group of its own; what it leaves behind when its time is over ends with it. */
async function run(command, args, { timeout, quiet = false, env = {} }) {
  const child = spawn(command, args, {
    cwd: root,
    detached: true,
    stdio: quiet ? 'ignore' : 'inherit',
    env: { ...process.env, ...env },
  })
  const end = (signal) => {
    try {
      process.kill(-child.pid, signal)
    } catch {
      // Nobody is left.
    }
  }
  const onSignal = () => end('SIGTERM')
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  let isLate = false
  const polite = setTimeout(() => {
    isLate = true
    end('SIGTERM')
  }, timeout)
  const forced = setTimeout(() => end('SIGKILL'), timeout + 20_000)
  const [code] = await Promise.race([once(child, 'exit'), once(child, 'error').then(() => [127])])
  clearTimeout(polite)
  clearTimeout(forced)
  process.off('SIGINT', onSignal)
  process.off('SIGTERM', onSignal)
  return { code, isLate }
}

async function install(packages) {
  const isRoot = process.getuid?.() === 0
  const apt = async (...args) => {
    const all = ['apt-get', '-o', 'DPkg::Lock::Timeout=600', ...args]
    const [command, ...rest] = isRoot ? all : ['sudo', '-n', ...all]
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    return run(command, rest, { timeout: INSTALL_TIMEOUT, quiet: true, env })
  }
  console.log(`== apt-get install ${packages.join(' ')}`)
  await apt('update')
  const all = await apt('install', '-y', '--no-install-recommends', ...packages)
  if (all.code === 0) return
  // One that cannot be had must not cost the others.
  for (const one of packages) await apt('install', '-y', '--no-install-recommends', one)
}

const lacking = (engine) => Object.entries(engine.needs).filter(([program]) => !isThere(program))

const missing = [
  ...new Set(wanted.flatMap((engine) => lacking(engine).flatMap(([, name]) => name))),
]
if (missing.length > 0) await install(missing)

for (const { name, built } of toBuild) {
  console.log(`== building ${name}: minutes`)
  const script = join(root, 'test/engines', built.by)
  const args = [join(CACHE, built.folder), ...built.programs]
  const { code } = await run(script, args, { timeout: BUILD_TIMEOUT })
  if (code !== 0) console.error(`!! ${name} could not be built`)
}

const folder = mkdtempSync(join(tmpdir(), 'manyhost-engines-'))
const begun = performance.now()
const rows = []
for (const engine of wanted) {
  const packages = lacking(engine).flatMap(([, name]) => name)
  if (packages.length > 0) {
    const why = `the package mirror did not give ${packages.join(' ')}`
    console.error(`\n!! NOT RUN: ${engine.name}: ${why}`)
    rows.push([engine.name, 'not run', '', why])
    continue
  }
  const { built } = engine
  if (built?.programs.some((program) => !existsSync(join(CACHE, built.folder, program)))) {
    const why = `no package ships it; \`npm run test:engines -- ${engine.name}-build\` builds it once`
    console.error(`\n!! NOT RUN: ${engine.name}: ${why}`)
    rows.push([engine.name, 'not run', '', why])
    continue
  }
  const left = TIMEOUT - (performance.now() - begun)
  if (left <= 0) {
    rows.push([engine.name, 'not run', '', `no time left of ${TIMEOUT / 60_000} minutes`])
    process.exitCode = 1
    continue
  }
  console.log(`\n== ${engine.name}`)
  rows.push([
    engine.name,
    ...(await test(engine, Math.min(left, engine.timeout ?? ENGINE_TIMEOUT))),
  ])
}
rmSync(folder, { recursive: true, force: true })
print(rows)

async function test(engine, timeout) {
  const report = join(folder, `${engine.name}.json`)
  const files = engine.tests.map((name) => `test/engines/${name}.engine.test.ts`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const args = ['vitest', 'run', '--project', 'engines', ...files, ...reporters, ...vitestArgs]
  const started = performance.now()
  const env = { PATH: `${process.env.PATH}${delimiter}/usr/sbin${delimiter}/sbin` }
  const { code, isLate } = await run('npx', args, { timeout, env })
  const took = `${Math.round((performance.now() - started) / 1_000)} s`
  const facts = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
  const passed = facts?.numPassedTests ?? 0
  const failed = facts?.numFailedTests ?? 0
  const skipped = (facts?.numPendingTests ?? 0) + (facts?.numTodoTests ?? 0)
  const counts = `${passed} passed, ${failed} failed${skipped ? `, ${skipped} not run` : ''}`
  if (isLate) {
    process.exitCode = 1
    return ['FAILED', took, `not done within ${timeout / 1_000} s; ${counts}`]
  }
  if (code !== 0) {
    process.exitCode = 1
    return ['FAILED', took, counts]
  }
  // Everything skipped is not the same as everything right.
  if (passed === 0) {
    console.error(`!! NOT RUN: ${engine.name}: all its tests were skipped; see above`)
    return ['not run', took, counts]
  }
  return ['passed', took, counts]
}

function print(all) {
  const widths = [0, 1, 2].map((i) => Math.max(...all.map((row) => String(row[i]).length), 6))
  console.log('')
  for (const row of [['engine', 'result', 'took', ''], ...all]) {
    console.log(
      row
        .map((cell, i) => String(cell).padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
  }
}
