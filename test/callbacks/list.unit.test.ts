/**
 * Every function that a user may give, and where what it may do wrong is tested. The sources are searched for options that
 * are functions, so that a new one is not forgotten here.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

const SESSION = 'test/callbacks/session.test.ts'
const PROVIDER = 'test/callbacks/provider.test.ts'
const LINKS = 'test/callbacks/links.test.ts'
const ROOMS = 'test/callbacks/rooms.test.ts'
const TASKS = 'test/callbacks/tasks.test.ts'

/** By file of its option, or of what takes it. Methods of what a user may implement have the name of that before a dot. */
const CALLBACKS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'src/dispatch/settings.ts': { balance: SESSION, fairness: SESSION },
  'src/session/service.ts': { random: SESSION },
  'src/session/session.ts': {
    random: SESSION,
    'on(listener)': SESSION,
    'startup(function)': ROOMS,
  },
  'src/session/options.ts': { random: SESSION },
  'src/sizing/size.ts': {
    'setSize(function)': SESSION,
    'setSize(valueOf)': SESSION,
    'setSize(Symbol.toPrimitive)': SESSION,
    'setSize(class)': SESSION,
  },
  'src/core/provider.ts': {
    'Provider.start': PROVIDER,
    'Provider.limit': PROVIDER,
    'Provider.available': PROVIDER,
    'Provider.onAvailable': PROVIDER,
    'Provider.onAgent': PROVIDER,
    'Provider.close': PROVIDER,
    'Running.exited': PROVIDER,
    'Running.leaving': PROVIDER,
    'Running.slots': PROVIDER,
    'Running.accepts': PROVIDER,
    'Running.stop': PROVIDER,
  },
  'src/session/map.ts': { request: ROOMS, read: ROOMS, 'map(source)': ROOMS },
  'src/dispatch/interceptor.ts': { 'dispatcher().dispatch(handler)': ROOMS },
  'src/dispatch/body.ts': { 'body()': 'test/http/resends.test.ts' },
  'src/session/session-messages.ts': { random: LINKS },
  'src/feed/client-options.ts': { random: LINKS },
  'src/feed/rights.ts': { 'IdentitySource.find': LINKS, 'IdentitySource.close': LINKS },
  'src/feed/broker.ts': { 'subscribe(listener)': LINKS, 'on(listener)': SESSION },
  'src/wire/options.ts': { onError: LINKS, key: LINKS },
  'src/wire/names.ts': { 'names()': LINKS, 'exposed functions': LINKS, callbacks: LINKS },
  'src/wire/reconnect.ts': { onRetry: LINKS },
  'src/tasks/server/options.ts': { onOutput: TASKS, onProblem: TASKS, onBad: TASKS },
  'src/tasks/text/source.ts': { onBad: TASKS, make: TASKS, onLine: TASKS, 'the source': TASKS },
  'src/gateway/admin/handler.ts': { isReady: ROOMS },
  'providers/static.ts': { connect: ROOMS },
  'providers/pull/worker.ts': { handle: 'test/providers/pull/reports.test.ts', onError: ROOMS },
  'providers/agent/options.ts': { onEvent: ROOMS, key: LINKS },
  'providers/testing/in-process.ts': { handler: ROOMS, upgrade: ROOMS },
}

/** Options that are functions, by the rule that parses them or by their type. */
const RULE = /^ {2}(\w+): (?:callback|listenerRule)[<(]/gm
const TYPED = /^ {2}readonly (\w+)\??: (?:'\w+' \| )?\(?\(.*=> /gm
/** Files that have options of users, and no others. */
const OPTIONS =
  /(?:^src\/session\/(?:service|session|map|session-messages)|[/-]options|source|reconnect|worker|gateway\/admin\/handler)\.ts$/

function filesOf(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
}

test('each option that is a function is in the table', () => {
  const missing: string[] = []
  let found = 0
  for (const file of [...filesOf('src'), ...filesOf('providers')].filter(
    (one) => OPTIONS.test(one) && one !== 'src/core/options.ts',
  )) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, name = ''] of [...text.matchAll(RULE), ...text.matchAll(TYPED)]) {
      found++
      if (CALLBACKS[file]?.[name] === undefined) missing.push(`${file}: ${name}`)
    }
  }
  expect(missing).toEqual([])
  expect(found).toBeGreaterThan(10)
})

test('each file of the table, and each of its tests, is there', () => {
  for (const [file, callbacks] of Object.entries(CALLBACKS)) {
    for (const path of [file, ...Object.values(callbacks)])
      expect([path, existsSync(join(root, path))]).toEqual([path, true])
  }
})
