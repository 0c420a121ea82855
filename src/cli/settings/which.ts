/** `manyhost config which`. */
import { CliError, EXIT } from '../exit.ts'
import { line } from '../terminal.ts'
import { readLayers } from './files.ts'
import { COMMON, KEYS } from './keys.ts'
import { keyNamed } from './scope.ts'

export async function run([given = '']: readonly (string | undefined)[]): Promise<number> {
  const { section, name } = keyNamed(given)
  for (const { file, sections } of (await readLayers()).reverse()) {
    for (const one of new Set([section, COMMON])) {
      if (sections[one]?.[name] === undefined) continue
      const variable = KEYS.get(one)
        ?.get(name)
        ?.env.find((variable) => process.env[variable])
      await line(
        file === undefined ? `${variable} of the environment` : `${one}.${name} of ${file}`,
      )
      return EXIT.ok.number
    }
  }
  throw new CliError('notFound', `${given} is not set`)
}
