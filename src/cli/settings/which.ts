/** `manyhost config which`: prints the file or variable that sets a key. */
import { CliError, EXIT } from '../exit.ts'
import { writeLine } from '../terminal.ts'
import { readSettingsLayers } from './files.ts'
import { COMMON_SECTION, SETTINGS_KEYS } from './keys.ts'
import { findKey } from './scope.ts'

export async function run([given = '']: readonly (string | undefined)[]): Promise<number> {
  const { section, name } = findKey(given)
  for (const { file, sections } of (await readSettingsLayers()).reverse()) {
    for (const one of new Set([section, COMMON_SECTION])) {
      if (sections[one]?.[name] === undefined) continue
      const variable = SETTINGS_KEYS.get(one)
        ?.get(name)
        ?.env.find((variable) => process.env[variable])
      await writeLine(
        file === undefined ? `${variable} of the environment` : `${one}.${name} of ${file}`,
      )
      return EXIT.ok.number
    }
  }
  throw new CliError('notFound', `${given} is not set`)
}
