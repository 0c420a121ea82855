/** The slurm provider against a real cluster of three nodes, by its commands. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { slurm } from '../../providers/slurm/index.ts'
import { pidsOf } from '../help.ts'
import { conformance } from '../providers/conformance.ts'
import { withEngine } from './engine.ts'
import { openSlurm, type SlurmCluster } from './slurm.ts'

const SBATCH = '/usr/bin/sbatch'

withEngine(SBATCH, 'Slurm', () => {
  let cluster: SlurmCluster
  const scratch = mkdtempSync(join(tmpdir(), 'manyhost-slurm-'))
  const options: Record<string, unknown> = { ports: [14_000, 15_999] }

  beforeAll(async () => {
    cluster = await openSlurm()
    options.conf = cluster.conf
  })
  afterAll(async () => {
    await cluster?.close()
    rmSync(scratch, { recursive: true, force: true })
  })

  async function jobOf(id: string, format: string): Promise<string> {
    const states = 'pending,running,suspended,configuring,completing'
    const all = await cluster.run(
      'squeue',
      '--noheader',
      `--states=${states}`,
      `--name=${id}`,
      '-o',
      format,
    )
    return all.trim()
  }

  async function signal(id: string, name: NodeJS.Signals): Promise<void> {
    for (const pid of pidsOf(id)) process.kill(pid, name)
  }

  conformance({
    name: 'slurm',
    provider: () => slurm(options),
    server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
    scratch,
    exists: async (id) => pidsOf(id).length > 0 || (await jobOf(id, '%T')) !== '',
    kill: (id) => signal(id, 'SIGKILL'),
    freeze: (id) => signal(id, 'SIGSTOP'),
    thaw: (id) => signal(id, 'SIGCONT'),
    labels: async (id) => JSON.parse(await jobOf(id, '%k')).labels,
    resources: async (id) => {
      const [cpus, memory] = (await jobOf(id, '%C %m')).split(' ')
      return { cpus: Number(cpus), memory: Number.parseInt(memory ?? '', 10) * 1_048_576 }
    },
    unreachable: async () => {
      cluster.controller().kill('SIGSTOP')
      return async () => void cluster.controller().kill('SIGCONT')
    },
    elsewhere: { module: 'providers/slurm/index.js', make: 'slurm', options },
    cannot: {
      'out of memory': 'limits need cgroups of their own, which slurmd cannot make here',
    },
  })
})

if (!existsSync(SBATCH)) console.error('!! NOT RUN: the slurm provider; Slurm is not installed')
