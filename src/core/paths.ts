/** Paths of the programs of this package that run as processes or threads of their own. */
import { fileURLToPath } from 'node:url'

/** Path of the compiled form of a program below `src/`, also when the sources are run, as in tests. */
export function compiledPath(program: string): string {
  const root = import.meta.url.endsWith('.ts') ? '../../dist/src/' : '../'
  return fileURLToPath(new URL(root + program, import.meta.url))
}
