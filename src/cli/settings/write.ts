/** A file of settings comes into being, or is replaced, as a whole. */
import { existsSync, mkdirSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describeError } from '../../core/errors.ts'
import { CliError } from '../exit.ts'
import { settingsPaths } from './files.ts'

/** Only that of the system is for others to read. @throws CliError */
export function replaceSettingsFile(file: string, text: string): void {
  const isShared = file === settingsPaths().system
  try {
    mkdirSync(dirname(file), { recursive: true, mode: isShared ? 0o755 : 0o700 })
    const isThere = existsSync(file)
    // Who keeps the file elsewhere, behind a link, has it changed there.
    const target = isThere ? realpathSync(file) : file
    const mode = isThere ? statSync(file).mode & 0o777 : isShared ? 0o644 : 0o600
    const next = `${target}.${process.pid}.new`
    writeFileSync(next, text, { mode })
    renameSync(next, target)
  } catch (error) {
    throw new CliError('failure', `cannot write ${file}: ${describeError(error)}`, { cause: error })
  }
}
