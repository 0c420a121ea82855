/** A fleet file that is watched. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readFleetFileOrExit } from '../../src/cli/serve/fleet-file.ts'
import { openServeLog } from '../../src/cli/serve/log.ts'
import { ConfiguredProviders } from '../../src/cli/serve/providers.ts'
import { Reloader } from '../../src/cli/serve/reload.ts'
import { applyConfig } from '../../src/config/apply.ts'
import { Session } from '../../src/index.ts'
import { waitUntil } from '../help.ts'
import { createFolder } from './help.ts'

test('what is saved while the first file is still being put into effect is not missed', async () => {
  const file = join(createFolder(), 'fleet.yaml')
  const fleet = (...names: readonly string[]): string =>
    `services:\n${names.map((name) => `  http://${name}: { command: [node, ${name}.mjs], size: 0 }\n`).join('')}`
  writeFileSync(file, fleet('calc'))
  const first = readFleetFileOrExit(file, {})
  writeFileSync(file, fleet('calc', 'sums'))

  const log = openServeLog({ format: 'quiet', level: 'error' })
  const session = new Session()
  onTestFinished(() => session.close({ force: true }))
  const { toServiceOptions: toService } = new ConfiguredProviders(session.metrics, log.logger)
  const { running } = await applyConfig(session, undefined, first.config, toService)
  expect(session.clusters.map(({ url }) => url)).toEqual(['http://calc'])
  const served = { file, env: {}, session, gateways: [], toService, log }
  const reloader = new Reloader(served, first, running)
  onTestFinished(() => reloader.close())
  reloader.watch()
  await waitUntil(() => session.clusters.length === 2)
})
