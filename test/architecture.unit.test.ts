/** The order of imports, by folder, and what else every source file has to keep to. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')

/** Files that may lie loose in `src/`: the entries of the package. They, and `cli`, may import every folder. */
const ENTRIES = ['src/index.ts', 'src/tasks.ts']

/**
 * The folders, from the bottom up. A folder may import the folders of the lines above its own line in this list. It may
 * not import a higher folder, nor another folder of its own line.
 */
const LEVELS: readonly (readonly string[])[] = [
  ['src/core'],
  ['src/posix', 'src/store'],
  ['src/dispatch', 'src/sizing', 'src/wire', 'src/feed'],
  ['src/cluster'],
  ['src/client'],
  ['src/session'],
  ['src/tasks', 'src/gateway'],
  ['src/config'],
  ['src/cli'],
]

/** What providers may import beside each other. Only the entries and `cli` import a provider. */
const PROVIDERS_IMPORT = ['src/core', 'src/posix', 'src/store', 'src/wire']

interface Source {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

function sources(folder: string): Source[] {
  return readdirSync(resolve(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const path = `${folder}/${name}`
      const text = readFileSync(resolve(root, path), 'utf8')
      const from = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']*)'/g)]
      const to = (at: string) => relative(root, resolve(root, dirname(path), at))
      return { path, text, imports: from.map((match) => to(match[1] as string)) }
    })
}

/** The folder of a file: `src/<folder>` or `providers`; for a file loose in `src/` its own path. */
function folderOf(path: string): string {
  const [top, second = '', ...rest] = path.split('/')
  if (top === 'providers') return 'providers'
  return rest.length > 0 ? `${top}/${second}` : path
}

const levelOf = (folder: string) => LEVELS.findIndex((level) => level.includes(folder))

function mayImport(from: string, to: string): boolean {
  if (from === to || ENTRIES.includes(from)) return true
  if (from === 'providers') return PROVIDERS_IMPORT.includes(to)
  if (from === 'src/cli') return true
  return levelOf(to) >= 0 && levelOf(to) < levelOf(from)
}

const all = [...sources('src'), ...sources('providers')]

test('every file is in a folder of the architecture', () => {
  const folders = new Set(all.map(({ path }) => folderOf(path)))
  const unknown = [...folders].filter(
    (folder) => folder !== 'providers' && levelOf(folder) < 0 && !ENTRIES.includes(folder),
  )
  expect(unknown).toEqual([])
  expect(LEVELS.flat().filter((folder) => !folders.has(folder))).toEqual([])
})

test('imports go downward only, types included, and folders of one level do not import each other', () => {
  const wrong = all.flatMap(({ path, imports }) =>
    imports
      .filter((target) => !mayImport(folderOf(path), folderOf(target)))
      .map((target) => `${path} imports ${target}`),
  )
  expect(wrong).toEqual([])
})

/** Groups of files that import each other, directly or through others (Tarjan's strongly connected components). */
function findCircles(): string[][] {
  const edges = new Map(all.map(({ path, imports }) => [path, imports]))
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const circles: string[][] = []
  const visit = (path: string): void => {
    const own = index.size
    index.set(path, own)
    low.set(path, own)
    stack.push(path)
    for (const target of edges.get(path) ?? []) {
      if (!index.has(target)) visit(target)
      if (stack.includes(target)) {
        low.set(path, Math.min(low.get(path) as number, low.get(target) as number))
      }
    }
    if (low.get(path) !== own) return
    const group = stack.splice(stack.indexOf(path))
    if (group.length > 1) circles.push(group.toReversed())
  }
  for (const { path } of all) if (!index.has(path)) visit(path)
  return circles
}

test('there are no import circles; imports of types and dynamic imports count', () => {
  expect(findCircles()).toEqual([])
})

test('each exported class, interface and type has a name of its own', () => {
  const owners = new Map<string, string[]>()
  for (const { path, text } of all) {
    const names = text.matchAll(/^export (?:abstract )?(?:class|interface|type) (\w+)/gm)
    for (const [, name = ''] of names) owners.set(name, [...(owners.get(name) ?? []), path])
  }
  expect([...owners].filter(([, paths]) => paths.length > 1)).toEqual([])
})

test('no file has more than 400 lines', () => {
  const long = all.filter(({ text }) => text.split('\n').length > 401)
  expect(long.map(({ path }) => path)).toEqual([])
})

test('nothing is exported wholesale', () => {
  expect(all.filter(({ text }) => /^export \*/m.test(text)).map(({ path }) => path)).toEqual([])
})

test('only src/core/time.ts touches timers and clocks', () => {
  const touches =
    /(?<![.\w])(?:set(?:Timeout|Interval|Immediate)\s*\((?!\): this)|Date\.now\b|new Date\(\)|performance\.now\b|AbortSignal\.timeout\b|node:timers)/
  // A socket's own `setTimeout` is its own matter.
  const wrong = all.filter(({ path, text }) => touches.test(text) && path !== 'src/core/time.ts')
  const lines = wrong.flatMap(({ path, text }) =>
    text
      .split('\n')
      .filter((line) => touches.test(line) && !/^\s*(?:\/\/|\*|\/\*)/.test(line))
      .map((line) => `${path}: ${line.trim()}`),
  )
  expect(lines).toEqual([])
})

describe('docs/architecture.md', () => {
  const map = readFileSync(resolve(root, 'docs/architecture.md'), 'utf8')

  test('lists every folder at its level', () => {
    const rows = [...map.matchAll(/^\| (\d+) +\| `(src\/\w+)` /gm)]
    const listed = rows.map(([, level, folder]) => `${level} ${folder}`)
    expect(listed).toEqual(LEVELS.flatMap((level, at) => level.map((one) => `${at + 1} ${one}`)))
  })

  test('names only files and folders that exist', () => {
    const paths = [...map.matchAll(/`((?:src|providers|test)\/[\w./-]*)`/g)].map(([, path]) => path)
    expect(paths.length).toBeGreaterThan(20)
    expect(paths.filter((path) => !existsSync(resolve(root, path as string)))).toEqual([])
  })
})

test('no file of the repository points outside it', () => {
  const files = ['README.md', 'CHANGELOG.md', ...listFiles('docs'), ...listFiles('test')]
  const texts = [...all.map(({ path }) => path), ...files]
  const outside = /\.\.\/shared\/(?!\w[\w/-]*\.ts)|\b(?:DESIGN|STYLE|FACTS)\.md/
  const pointing = texts
    .filter((path) => path !== 'test/architecture.unit.test.ts')
    .filter((path) => outside.test(readFileSync(resolve(root, path), 'utf8')))
  expect(pointing).toEqual([])
})

function listFiles(folder: string): string[] {
  return readdirSync(resolve(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|md|js|mjs)$/.test(name))
    .map((name) => `${folder}/${name}`)
}
