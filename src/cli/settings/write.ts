/** Creates or replaces a settings file as a whole. */
import { existsSync, mkdirSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describeError } from '../../core/errors.ts'
import { CliError } from '../exit.ts'
import { settingsPaths } from './files.ts'

/** Other users can read only the file of the system. @throws CliError */
export function replaceSettingsFile(file: string, text: string): void {
  const isShared = file === settingsPaths().system
  try {
    mkdirSync(dirname(file), { recursive: true, mode: isShared ? 0o755 : 0o700 })
    const isThere = existsSync(file)
    // If the file is a symbolic link, its target is replaced and the link stays.
    const target = isThere ? realpathSync(file) : file
    const mode = isThere ? statSync(file).mode & 0o777 : isShared ? 0o644 : 0o600
    const next = `${target}.${process.pid}.new`
    writeFileSync(next, text, { mode })
    renameSync(next, target)
  } catch (error) {
    throw new CliError('failure', `cannot write ${file}: ${describeError(error)}`, { cause: error })
  }
}
