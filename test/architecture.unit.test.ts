/** The order of imports, by folder, and what else every source file has to keep to. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

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

test('no cycles among values, not even within a room', () => {
  const edges = new Map<string, string[]>()
  for (const { path, text } of all) {
    const values = [...text.matchAll(/^(?:import|export) (?!type\b)[^;]*?from '(\.[^']*)'/gms)]
    const to = (at: string) => relative(root, resolve(root, dirname(path), at))
    edges.set(
      path,
      values
        .filter(([whole]) => !/^\w+ \{(?:\s*type \w+( as \w+)?,?)+\s*\}/.test(whole))
        .map((match) => to(match[1] as string)),
    )
  }
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (path: string, way: readonly string[]): void => {
    if (way.includes(path)) cycles.push([...way.slice(way.indexOf(path)), path].join(' -> '))
    if (done.has(path) || way.includes(path)) return
    for (const target of edges.get(path) ?? []) visit(target, [...way, path])
    done.add(path)
  }
  for (const path of edges.keys()) visit(path, [])
  expect(cycles).toEqual([])
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
