/** TypeScript of the tests as JavaScript, for what benches share with them: plain Node 20 reads no TypeScript. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** What a file such as `test/engines/containers.ts` exports. */
export async function compiled(file) {
  const cache = resolve(root, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'manyhost-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: { noEmit: false, outDir: join(folder, 'out'), rootDir: root },
    include: [join(root, file)],
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(root, 'node_modules/.bin/tsc')
  execFileSync(tsc, ['-p', folder, '--noCheck', '--declaration', 'false'], { stdio: 'inherit' })
  return import(pathToFileURL(join(folder, 'out', file.replace(/\.ts$/, '.js'))))
}
