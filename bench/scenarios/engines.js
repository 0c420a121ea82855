/**
 * From `setSize(n)` to n ready instances on each engine that is on this machine, beside n of the engine's own commands
 * (`docker run`, a spawned process) that are started at once and asked until they answer, in the same run. Theory: what
 * we add is our requests to the engine, which its command makes as well. Target: at most 1.2 times the command's time.
 *
 * An engine joins with a line in ENGINES: `open` answers with
 *   make()            a provider
 *   service           options of the service: the command, the image
 *   direct(ports)     starts a server on each port by the engine's own command; resolves with what ends them
 *   close()
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Session } from 'manyhost'
import { docker, podman } from 'manyhost/providers/docker'
import { processes } from 'manyhost/providers/process'
import { slurm } from 'manyhost/providers/slurm'
import { pick } from '../lib/args.js'
import { compiled } from '../lib/compiled.js'
import { median } from '../lib/stats.js'
import { ratio, table } from '../lib/table.js'

const run = promisify(execFile)
const SIZES = pick([1, 8], [1, 8, 32])
const ROUNDS = pick(1, 3, 7)
const HTTP = 'http://bench/'
const script = fileURLToPath(new URL('../../test/fakes/conformance-server.mjs', import.meta.url))

const ENGINES = [
  { name: 'process', program: process.execPath, open: openProcesses },
  { name: 'docker', program: '/usr/sbin/dockerd', open: () => openContainers('docker', docker) },
  { name: 'podman', program: '/usr/bin/podman', open: () => openContainers('podman', podman) },
  { name: 'slurm', program: '/usr/bin/sbatch', open: openSlurmCluster },
]

function openProcesses() {
  const command = [process.execPath, script]
  return {
    make: () => processes(),
    service: { command },
    async direct(ports) {
      const children = ports.map((port) => {
        const env = { ...process.env, HOST: '127.0.0.1', PORT: String(port) }
        return spawn(command[0], command.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] })
      })
      return () =>
        Promise.all(
          children.map((child) => {
            const exited = once(child, 'exit')
            child.kill('SIGKILL')
            return exited
          }),
        )
    },
    async close() {},
  }
}

async function openContainers(name, make) {
  const { startEngine, IMAGE, SERVER } = await compiled('test/engines/containers.ts')
  const daemon = await startEngine(name)
  const [program, ...cli] = daemon.cli
  return {
    make: () => make({ hosts: [`unix://${daemon.socket}`], network: 'host' }),
    service: { image: IMAGE, command: SERVER },
    async direct(ports) {
      const ids = await Promise.all(
        ports.map(async (port) => {
          const env = ['-e', 'HOST=127.0.0.1', '-e', `PORT=${port}`]
          const [first, ...rest] = SERVER
          const what = ['--network', 'host', ...env, '--entrypoint', first, IMAGE, ...rest]
          const { stdout } = await run(program, [...cli, 'run', '-d', ...what], { env: daemon.env })
          return stdout.trim()
        }),
      )
      return () => run(program, [...cli, 'rm', '-f', ...ids], { env: daemon.env })
    },
    close: () => daemon.stop(),
  }
}

async function openSlurmCluster() {
  const { openSlurm } = await compiled('test/engines/slurm.ts')
  const cluster = await openSlurm()
  const env = { ...process.env, SLURM_CONF: cluster.conf }
  return {
    make: () => slurm({ conf: cluster.conf }),
    service: { command: [process.execPath, script] },
    async direct(ports) {
      const ids = await Promise.all(
        ports.map(async (port) => {
          const wrap = `HOST=127.0.0.1 PORT=${port} exec ${process.execPath} ${script}`
          const args = ['--parsable', '--output=/dev/null', '--chdir=/', `--wrap=${wrap}`]
          const { stdout } = await run('sbatch', args, { env })
          return stdout.trim()
        }),
      )
      return async () => {
        await run('scancel', ids, { env })
        // The next round finds an empty cluster, as ours does: a stop waits for it.
        while ((await run('squeue', ['--noheader'], { env })).stdout.trim() !== '') await sleep(50)
      }
    },
    close: () => cluster.close(),
  }
}

async function accepting(port) {
  for (;;) {
    const accepts = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
      socket.once('close', () => socket.destroy())
      socket.once('connect', () => socket.destroy())
    })
    if (accepts) return
    await sleep(5)
  }
}

let next = 17_000

/** ms from the commands to the last server that accepts. */
async function direct(engine, n) {
  const ports = Array.from({ length: n }, () => next++)
  if (next > 19_500) next = 17_000
  const begun = performance.now()
  const started = engine.direct(ports)
  const [end] = await Promise.all([started, ...ports.map(accepting)])
  const took = performance.now() - begun
  await end()
  return took
}

/** ms from setSize(n) to n ready. */
async function ours(engine, n) {
  const session = new Session({ provider: engine.make() })
  session.startup({ url: HTTP, ...engine.service, initSize: 0 })
  let count = 0
  const all = new Promise((resolve) => {
    session.on('instance', ({ state }) => {
      if (state === 'failed') console.log('!!! an instance failed')
      if (state === 'ready' && ++count === n) resolve()
    })
  })
  const begun = performance.now()
  session.setSize(HTTP, n)
  await all
  const took = performance.now() - begun
  await session.close({ force: true })
  return took
}

const rows = []
for (const { name, program, open } of ENGINES) {
  try {
    accessSync(program)
  } catch {
    console.log(`!! NOT RUN: ${name}: there is no ${program}; npm run test:engines installs it`)
    continue
  }
  const engine = await open()
  try {
    // The first one of an engine pays for what all others find there.
    await direct(engine, 1)
    await ours(engine, 1)
    for (const n of SIZES) {
      const figures = { direct: [], ours: [] }
      for (let round = 0; round < ROUNDS; round++) {
        figures.direct.push(await direct(engine, n))
        figures.ours.push(await ours(engine, n))
      }
      const [command, mine] = [median(figures.direct), median(figures.ours)]
      rows.push([`${name}, n = ${n}`, command, mine, ratio(mine / command), '1.2'])
    }
  } finally {
    await engine.close()
  }
}
table(
  `engines, median of ${ROUNDS} rounds; ms`,
  ['', "the engine's own command", 'setSize(n) to n ready', 'ratio', 'target'],
  rows,
)
process.exit()
