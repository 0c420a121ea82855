/** A fleet file, read, and held against everything that will use it: before anything is started or changed. */
import { statSync } from 'node:fs'
import { type Config, loadConfig } from '../../config/config.ts'
import { asError, ManyhostError } from '../../core/errors.ts'
import { fileFingerprint } from '../../core/fingerprint.ts'
import type { GatewayOptions } from '../../gateway/index.ts'
import { parseGateway } from '../../gateway/options.ts'
import { CliError } from '../exit.ts'
import { toFeedOptions } from './feed.ts'
import { toGatewayOptions } from './gateway-options.ts'
import { PROVIDER_TYPES } from './providers.ts'

export interface FleetFile {
  readonly config: Config
  readonly gateways: readonly GatewayOptions[]
  /** Of the file, just before it was read: one that has another by now has not been seen. */
  readonly fingerprint: string
}

/** What is served, checked and written where no file is named. */
export const DEFAULT_FLEET_FILE = 'fleet.yaml'

/** @throws ConfigError with every problem; CliError for what is wrong beyond them */
export function readFleetFile(file: string, env: NodeJS.ProcessEnv = process.env): FleetFile {
  const stat = statSync(file, { throwIfNoEntry: false })
  if (!stat) {
    const hint =
      file === DEFAULT_FLEET_FILE ? "; name another, or write one with 'manyhost init'" : ''
    throw new CliError('config', `${file}: there is no such file${hint}`)
  }
  const config = loadConfig(file, env, { providers: PROVIDER_TYPES })
  const gateways = toGatewayOptions(config)
  try {
    for (const options of gateways) parseGateway(options)
    toFeedOptions(config)
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    throw new CliError('config', `${file}: ${error.message}`, { cause: error })
  }
  return { config, gateways, fingerprint: fileFingerprint(stat) }
}

/** As `readFleet`, but whatever is wrong with the file is an error that ends the command with the fitting code. */
export function readFleetFileOrExit(file: string, env?: NodeJS.ProcessEnv): FleetFile {
  try {
    return readFleetFile(file, env)
  } catch (error) {
    if (error instanceof CliError || !(error instanceof ManyhostError)) throw error
    throw new CliError('config', asError(error).message, { cause: error })
  }
}
