/** What `npm pack` makes works where nothing of this checkout is: its bin, its exports, their types. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { publint } from 'publint'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const { exports: doors, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const SUBPATHS = Object.keys(doors).filter((path) => path !== './package.json')

let project: string
let files: string[]

beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), 'manyhost-pack-'))
  // Without scripts: `prepack` would build again, below the feet of the other tests.
  const packed = await run(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', project],
    {
      cwd: root,
    },
  )
  const parsed = JSON.parse(packed.stdout)
  const [report] = Array.isArray(parsed) ? parsed : Object.values(parsed)
  const { filename, files: packedFiles } = report as { filename: string; files: { path: string }[] }
  files = packedFiles.map(({ path }) => path)
  writeFileSync(
    join(project, 'package.json'),
    '{ "name": "clean", "type": "module", "private": true }',
  )
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts']
  await run('npm', ['install', ...flags, join(project, filename)], { cwd: project })
}, 180_000)

afterAll(() => rmSync(project, { recursive: true, force: true }))

describe('the package', () => {
  it('has what it needs, and nothing of its making', () => {
    expect(files).toContain('dist/src/cli/main.js')
    expect(files).toContain('dist/src/gateway/dashboard/index.html')
    expect(files).toContain('schema/fleet.schema.json')
    expect(files.filter((file) => /^(src|test|bench|providers|examples)\//.test(file))).toEqual([])
  })

  it('has a bin that runs', async () => {
    const bin = join(project, 'node_modules/.bin/manyhost')
    expect((await run(bin, ['--version'])).stdout).toBe(`${version}\n`)
    await run(bin, ['init'], { cwd: project })
    expect((await run(bin, ['check'], { cwd: project })).stdout).toContain('fleet.yaml is valid')
  })

  it('can be imported, each subpath', async () => {
    const names = SUBPATHS.map((path) => `manyhost${path.slice(1)}`)
    const text = names.map((name) => `await import('${name}')`).join('\n')
    writeFileSync(join(project, 'all.js'), `${text}\nconsole.log('all there')\n`)
    expect((await run(process.execPath, ['all.js'], { cwd: project })).stdout).toBe('all there\n')
  })

  it('has types for each of them', { timeout: 60_000 }, async () => {
    const lines = SUBPATHS.map(
      (path, index) =>
        `import * as door${index} from 'manyhost${path.slice(1)}'\nexport { door${index} }`,
    )
    const use = `
import { type Cluster, Session } from 'manyhost'
import { createGateway, type Gateway } from 'manyhost/gateway'
export const session = new Session()
export const gateway: Promise<Gateway> = createGateway(session, {
  listen: '127.0.0.1:0',
  admin: { listen: '127.0.0.1:0', token: 's3cret' },
})
export const adminUrl: Promise<string | undefined> = gateway.then((one) => one.adminUrl)
export const cluster: Cluster = session.startup({ url: 'http://calc', command: ['node'] })
// @ts-expect-error: types are there, and not any
session.startup({ url: 3 })
`
    writeFileSync(join(project, 'all.ts'), lines.join('\n') + use)
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2023',
      lib: ['es2024', 'esnext.disposable', 'dom.asynciterable'],
      strict: true,
      noEmit: true,
      skipLibCheck: false,
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
    }
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['all.ts'] }),
    )
    const tsc = join(root, 'node_modules/.bin/tsc')
    const { stdout } = await run(tsc, ['-p', project]).catch((error: { stdout: string }) => error)
    expect(stdout).toBe('')
  })

  it('is what publint finds right', async () => {
    const { messages } = await publint({ pkgDir: root, strict: true, pack: false })
    expect(messages).toEqual([])
  })
})
