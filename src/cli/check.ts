/** `manyhost check`: reports all errors of a fleet file. */
import { ConfigError } from '../config/problem.ts'
import { buildFleetSchema } from '../config/schema.ts'
import { CliError, EXIT } from './exit.ts'
import { DEFAULT_FLEET_FILE, readFleetFile, readFleetFileOrExit } from './serve/fleet-file.ts'
import { writeLine } from './terminal.ts'

interface CheckFlags {
  readonly json?: boolean
  readonly schema?: boolean
}

export async function run(
  [file = DEFAULT_FLEET_FILE]: readonly (string | undefined)[],
  { json, schema }: CheckFlags,
): Promise<number> {
  if (schema) {
    await writeLine(JSON.stringify(buildFleetSchema(), null, 2))
    return EXIT.ok.number
  }
  if (json) {
    const problems = findProblems(file)
    await writeLine(JSON.stringify({ file, problems }, null, 2))
    return problems.length === 0 ? EXIT.ok.number : EXIT.config.number
  }
  const { services } = readFleetFileOrExit(file).config
  await writeLine(`${file} is valid: ${services.map(({ url }) => url).join(', ') || 'no services'}`)
  return EXIT.ok.number
}

function findProblems(file: string): readonly object[] {
  try {
    readFleetFile(file)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    if (error instanceof CliError)
      return [{ file, line: 0, column: 0, path: '', message: error.message }]
    throw error
  }
}
