/** `manyhost check`: what is wrong in a file. */

import { ConfigError } from '../config/problem.ts'
import { jsonSchema } from '../config/schema.ts'
import { CliError, EXIT } from './exit.ts'
import { DEFAULT_FILE, mustReadFleet, readFleet } from './serve/fleet.ts'
import { line } from './terminal.ts'

interface CheckOptions {
  readonly json?: boolean
  readonly schema?: boolean
}

export async function run(
  [file = DEFAULT_FILE]: readonly (string | undefined)[],
  { json, schema }: CheckOptions,
): Promise<number> {
  if (schema) {
    await line(JSON.stringify(jsonSchema(), null, 2))
    return EXIT.ok.number
  }
  if (json) {
    const problems = problemsOf(file)
    await line(JSON.stringify({ file, problems }, null, 2))
    return problems.length === 0 ? EXIT.ok.number : EXIT.config.number
  }
  const { services } = mustReadFleet(file).config
  await line(`${file} is right: ${services.map(({ url }) => url).join(', ') || 'no services'}`)
  return EXIT.ok.number
}

function problemsOf(file: string): readonly object[] {
  try {
    readFleet(file)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    if (error instanceof CliError)
      return [{ file, line: 0, column: 0, path: '', message: error.message }]
    throw error
  }
}
