/** Where programs of this package are that run as processes or threads of their own. */
import { fileURLToPath } from 'node:url'

/** Path of a program below `src/`, as it was compiled: also for who runs the sources, as tests do. */
export function compiledPath(program: string): string {
  const root = import.meta.url.endsWith('.ts') ? '../../dist/src/' : '../'
  return fileURLToPath(new URL(root + program, import.meta.url))
}
