/** `manyhost init`: writes a commented fleet file to start from. */
import { writeFileSync } from 'node:fs'
import { starterConfig } from '../config/starter.ts'
import { describeError } from '../core/errors.ts'
import { CliError, EXIT } from './exit.ts'
import { DEFAULT_FLEET_FILE } from './serve/fleet-file.ts'
import { writeLine } from './terminal.ts'

export async function run(
  [file = DEFAULT_FLEET_FILE]: readonly (string | undefined)[],
  { force }: { readonly force?: boolean },
): Promise<number> {
  try {
    // A single call creates the file or fails if it exists, so that no other program can create it in between.
    writeFileSync(file, starterConfig(), { flag: force ? 'w' : 'wx' })
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST'
    const why = isThere ? 'the file exists; --force overwrites it' : describeError(error)
    throw new CliError('failure', `cannot write ${file}: ${why}`)
  }
  await writeLine(`wrote ${file}; next: manyhost check ${file} && manyhost serve ${file}`)
  return EXIT.ok.number
}
