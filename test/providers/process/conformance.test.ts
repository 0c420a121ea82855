import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll } from 'vitest'
import { processes } from '../../../providers/process/index.ts'
import { findInstancePids } from '../../help.ts'
import { conformance } from '../conformance.ts'

const scratch = mkdtempSync(join(tmpdir(), 'manyhost-conformance-scratch-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

async function signal(id: string, name: NodeJS.Signals): Promise<void> {
  for (const pid of findInstancePids(id)) process.kill(pid, name)
}

conformance({
  name: 'process',
  provider: () => processes(),
  server: (...args) => ['node', resolve('test/fakes/conformance-server.mjs'), ...args],
  scratch,
  exists: async (id) => findInstancePids(id).length > 0,
  kill: (id) => signal(id, 'SIGKILL'),
  freeze: (id) => signal(id, 'SIGSTOP'),
  thaw: (id) => signal(id, 'SIGCONT'),
  elsewhere: { module: 'providers/process/index.js', make: 'processes', options: {} },
  cannot: {
    labels: 'a process has no labels',
    resources: 'the kernel limits process groups by cgroups only, which need root',
    'out of memory': 'there is no limit of its own to exceed',
    unreachable: 'the engine is the kernel',
  },
})
