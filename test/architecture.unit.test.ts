/** DESIGN.md, "Imports go downward only": the table, and that the files keep to it. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')

/** Rooms at the top of src/ have their files listed; all others are folders. */
const FILES: Record<string, readonly string[]> = {
  // `messages` is the one form in which events are told outside. `connector` makes undici's connections tell their end
  // rightly, for providers and for the network; `options` checks those of every room.
  leaf: [
    'errors',
    'events',
    // How functions of users are called, in every room.
    'guarded',
    // How what a provider answers to `start` is taken, in every room.
    'running',
    'startup',
    'time',
    'options',
    'provider',
    'connector',
    // What the connector reads of answers.
    'heads',
    'chunked-body',
    // The same care of a connection's end, for sockets that no pool has.
    'read-to-end',
    'dict',
    'pool',
    'reset',
    'version',
    'figures',
    'messages',
    'caller',
    'compiled',
    'database-words',
    'stamp',
    // What all servers of HTTP do with clients that go away, or do not read.
    'half-close',
    'http-server',
    'slow-readers',
    'tcp-queues',
  ],
  session: [
    'budget',
    'client',
    // What those in front of the session see of the rooms behind it.
    'inside',
    'intake',
    'limits',
    'map',
    'network',
    'redirect',
    'registry',
    'request',
    'response',
    'service',
    'session',
    'snapshot',
  ],
  metrics: ['metrics'],
  publish: ['publish'],
  // `tasks.ts` is the door of src/tasks; what agents are comes from providers/agent, as `index` has processes.
  index: ['index', 'tasks'],
}

/** What each room may see beside itself. */
const MAY_SEE: Record<string, readonly string[]> = {
  leaf: [],
  posix: ['leaf'],
  dispatch: ['leaf'],
  sizing: ['leaf'],
  wire: ['leaf', 'posix'],
  feed: ['leaf', 'posix'],
  cluster: ['leaf', 'dispatch', 'sizing'],
  session: ['leaf', 'dispatch', 'sizing', 'cluster'],
  metrics: ['leaf', 'session'],
  publish: ['leaf', 'session', 'feed'],
  tasks: ['leaf', 'posix', 'session'],
  gateway: ['leaf', 'posix', 'session'],
  // What the rooms behind the sections `feed` and `gateway` take is checked by their own rules.
  config: ['leaf', 'session', 'sizing', 'feed', 'gateway'],
  providers: ['leaf', 'posix', 'wire'],
  index: [
    'leaf',
    'dispatch',
    'sizing',
    'cluster',
    'session',
    'metrics',
    // The session's feed, and what it says there.
    'feed',
    'publish',
    'tasks',
    'providers/process',
    'providers/agent',
  ],
}
MAY_SEE.cli = [...Object.keys(MAY_SEE)]

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

/** The room that a file is in; for a provider, its own name comes with it. */
function roomOf(path: string): string {
  const [top, room = '', ...rest] = path.split('/')
  if (top === 'providers') return `providers/${room.replace(/\.ts$/, '')}`
  if (rest.length > 0) return room
  const name = room.replace(/\.ts$/, '')
  const found = Object.entries(FILES).find(([, names]) => names.includes(name))
  return found?.[0] ?? `src/${room}, which is in no room`
}

const all = [...sources('src'), ...sources('providers')]

/** `providers/x` counts as `providers`, but for who names it. */
function maySee(from: string, to: string): boolean {
  if (from === to) return true
  const seer = from.startsWith('providers/') ? 'providers' : from
  if (seer === 'providers' && to.startsWith('providers/')) return true
  const seen = MAY_SEE[seer] ?? []
  return seen.includes(to) || (to.startsWith('providers/') && seen.includes('providers'))
}

test('every file is in a room', () => {
  expect(all.map(({ path }) => roomOf(path)).filter((room) => room.includes('no room'))).toEqual([])
  expect(all.length).toBeGreaterThan(60)
})

test('imports go downward only, and siblings do not see each other', () => {
  const wrong = all.flatMap(({ path, imports }) =>
    imports
      .filter((target) => !maySee(roomOf(path), roomOf(target)))
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

test('only src/time.ts touches timers and clocks', () => {
  const touches =
    /(?<![.\w])(?:set(?:Timeout|Interval|Immediate)\s*\((?!\): this)|Date\.now\b|new Date\(\)|performance\.now\b|AbortSignal\.timeout\b|node:timers)/
  // A socket's own `setTimeout` is its own matter.
  const wrong = all.filter(({ path, text }) => touches.test(text) && path !== 'src/time.ts')
  const lines = wrong.flatMap(({ path, text }) =>
    text
      .split('\n')
      .filter((line) => touches.test(line) && !/^\s*(?:\/\/|\*|\/\*)/.test(line))
      .map((line) => `${path}: ${line.trim()}`),
  )
  expect(lines).toEqual([])
})
