/** The suite that every provider passes, against a fake of the daemon: the market itself cannot be tried here. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { findInstancePids } from '../../help.ts'
import { conformance } from '../conformance.ts'
import { command, faked, image } from './help.ts'

const scratch = mkdtempSync(join(tmpdir(), 'manyhost-golem-scratch-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const { provider } = faked()

/** The server alone: what watches over it belongs to the machine. */
function signal(id: string, name: NodeJS.Signals): void {
  for (const pid of findInstancePids(id)) {
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('conformance-server')) {
      process.kill(pid, name)
    }
  }
}

conformance({
  name: 'golem (a fake of the daemon)',
  provider: () => provider(),
  base: { image },
  server: (...args) => [...command, ...args],
  scratch,
  exists: async (id) => findInstancePids(id).length > 0,
  kill: async (id) => signal(id, 'SIGKILL'),
  freeze: async (id) => signal(id, 'SIGSTOP'),
  thaw: async (id) => signal(id, 'SIGCONT'),
  elsewhere: { module: 'providers/golem/index.js', make: 'golem', options: {} },
  cannot: {
    labels: 'an agreement has no labels',
    resources: 'a machine has at least what was asked for, and there is no limit to look at',
    'out of memory': 'a machine that has no memory left is its own kernel to kill in',
    unreachable:
      'the daemon is also the way of the requests; golem-market.test.ts tries what can be',
    sweep: 'what a killed session rents, its nodes end when their bills are not accepted any more',
  },
})
