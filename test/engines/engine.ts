/** Whether a program of somebody else is on this machine; a test without it is skipped, and that is said. */
import { existsSync } from 'node:fs'
import { describe } from 'vitest'

export const OUTPUT = new URL('../../test-output/', import.meta.url).pathname

export function withEngine(
  path: string,
  name: string,
  tests: () => void,
  hint = 'npm run test:engines installs it',
): void {
  const isThere = existsSync(path)
  if (!isThere) console.error(`!! SKIPPED: ${name}: there is no ${path}; ${hint}`)
  describe.skipIf(!isThere)(name, tests)
}
