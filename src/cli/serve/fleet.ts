/** A fleet file, read, and held against everything that will use it: before anything is started or changed. */
import { statSync } from 'node:fs'
import { type Config, loadConfig } from '../../config/config.ts'
import { asError, ManyhostError } from '../../core/errors.ts'
import { stampOf } from '../../core/fingerprint.ts'
import type { GatewayOptions } from '../../gateway/index.ts'
import { parseGateway } from '../../gateway/options.ts'
import { CliError } from '../exit.ts'
import { gatewayOptions } from './doors.ts'
import { feedOptions } from './feed.ts'
import { PROVIDER_TYPES } from './providers.ts'

export interface Fleet {
  readonly config: Config
  readonly gateways: readonly GatewayOptions[]
  /** Of the file, just before it was read: one that has another by now has not been seen. */
  readonly stamp: string
}

/** What is served, checked and written where no file is named. */
export const DEFAULT_FILE = 'fleet.yaml'

/** @throws ConfigError with every problem; CliError for what is wrong beyond them */
export function readFleet(file: string, env: NodeJS.ProcessEnv = process.env): Fleet {
  const stat = statSync(file, { throwIfNoEntry: false })
  if (!stat) {
    const hint = file === DEFAULT_FILE ? "; name another, or write one with 'manyhost init'" : ''
    throw new CliError('config', `${file}: there is no such file${hint}`)
  }
  const config = loadConfig(file, env, { providers: PROVIDER_TYPES })
  const gateways = gatewayOptions(config)
  try {
    for (const options of gateways) parseGateway(options)
    feedOptions(config)
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    throw new CliError('config', `${file}: ${error.message}`, { cause: error })
  }
  return { config, gateways, stamp: stampOf(stat) }
}

/** As `readFleet`, but whatever is wrong with the file is an error that ends the command with the fitting code. */
export function mustReadFleet(file: string, env?: NodeJS.ProcessEnv): Fleet {
  try {
    return readFleet(file, env)
  } catch (error) {
    if (error instanceof CliError || !(error instanceof ManyhostError)) throw error
    throw new CliError('config', asError(error).message, { cause: error })
  }
}
