/**
 * Names from outside that every object has already: `constructor` is there before anybody sets it, and `__proto__` sets
 * something else. They are names like any others, wherever names come in.
 */
import http2 from 'node:http2'
import { request } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { mergeTemplates } from '../providers/kubernetes/template.ts'
import { processes } from '../providers/process/index.ts'
import { loadConfig } from '../src/config/config.ts'
import { createDict, createFields, dictFromEntries } from '../src/core/null-prototype.ts'
import { createGateway } from '../src/gateway/index.ts'
import { baseEnvironment } from '../src/tasks/runner/environment.ts'
import { parseDirectives } from '../src/tasks/text/directives.ts'
import { parseTags } from '../src/tasks/text/tags.ts'
import { echo } from './fakes/echo.ts'
import { openRawService, openService, openSession } from './fakes/service.ts'

const NAMES = [
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
]

/** All of them with a value each, as properties of their own. */
const given = (): Record<string, string> =>
  Object.fromEntries(NAMES.map((name) => [name, `is ${name}`]))
const pairs = NAMES.map((name) => [name, `is ${name}`])

/** Those of NAMES that an object has for itself. */
function own(object: object): unknown[] {
  return NAMES.filter((name) => Object.hasOwn(object, name)).map((name) => [
    name,
    Reflect.get(object, name),
  ])
}

const answer = [
  'HTTP/1.1 200 OK',
  ...pairs.map(([name, value]) => `${name}: ${value}`),
  'trailer: constructor',
  'transfer-encoding: chunked',
  '',
  '2',
  'ok',
  '0',
  ...pairs.map(([name, value]) => `${name}: ${value}`),
  '\r\n',
].join('\r\n')

describe('headers and trailers of an answer', () => {
  const lower = pairs.map(([name = '', value]) => [name.toLowerCase(), value])
  const sorted = lower.toSorted()

  test('by the client', async () => {
    const { client } = await openRawService((socket) => socket.write(answer))
    const response = await client.get('http://calc/')
    expect(await response.text()).toBe('ok')
    expect(response.rawHeaders.filter(([name]) => NAMES.includes(name))).toEqual(pairs)
    for (const [name = '', value] of lower) {
      expect([response.headers.get(name), response.trailers?.get(name)]).toEqual([value, value])
    }
  })

  test('by fetch and by the dispatcher', async () => {
    const { session } = await openRawService((socket) => socket.write(answer))
    const fetched = await session.fetch('http://calc/')
    for (const [name = '', value] of lower) expect(fetched.headers.get(name)).toBe(value)
    await fetched.text()
    const asked = await request('http://calc/', { dispatcher: session.dispatcher() })
    await asked.body.text()
    for (const fields of [asked.headers, asked.trailers]) {
      const found = Object.entries(fields).filter(([, value]) => /^is /.test(String(value)))
      expect(found.toSorted()).toEqual(sorted)
    }
  })

  test('by the gateway, over HTTP/2', async () => {
    const { session } = await openRawService((socket) => socket.write(answer))
    const gateway = await createGateway(session, { listen: '127.0.0.1:0' })
    onTestFinished(() => gateway.close())
    const client = http2.connect(gateway.url)
    onTestFinished(() => client.destroy())
    const stream = client.request({ ':path': '/calc/' })
    const fields = await new Promise<object>((resolve) => stream.on('response', resolve))
    const found = Object.entries(fields).filter(([, value]) => /^is /.test(String(value)))
    expect(found.toSorted()).toEqual(sorted)
    stream.resume()
  })
})

test('headers, query and form of a request, by client, fetch and dispatcher', async () => {
  const { session, client } = openService(echo)
  const seen = (fields: string[]): unknown[] =>
    fields.flatMap((name, i) =>
      i % 2 === 0 && NAMES.includes(name) ? [[name, fields[i + 1]]] : [],
    )
  const posted = await client.post('http://calc/', {
    headers: given(),
    query: given(),
    form: given(),
  })
  const first = await posted.json()
  expect(seen(first.rawHeaders)).toEqual(pairs)
  expect([...new URLSearchParams(first.url.slice(2))]).toEqual(pairs)
  expect([...new URLSearchParams(first.body)]).toEqual(pairs)
  const options = { dispatcher: session.dispatcher(), headers: given(), query: given() }
  const second = (await (await request('http://calc/', options)).body.json()) as typeof first
  expect(seen(second.rawHeaders)).toEqual(pairs)
  expect([...new URLSearchParams(second.url.slice(2))]).toEqual(pairs)
  const third = (await (
    await session.fetch('http://calc/', { headers: given() })
  ).json()) as typeof first
  // undici's fetch itself loses the one on its way to the dispatcher.
  expect(seen(third.rawHeaders).toSorted()).toEqual(
    pairs.filter(([name]) => name !== '__proto__').toSorted(),
  )
  const json = await client.post('http://calc/', { json: given() })
  expect(own(JSON.parse((await json.json()).body))).toEqual(pairs)
})

test('variables of an instance', async () => {
  const script = `require('node:http').createServer((_, res) => res.end(JSON.stringify(process.env)))
    .listen(process.env.PORT, process.env.HOST)`
  const session = openSession(processes())
  session.startup({ url: 'http://calc', command: ['node', '-e', script], env: given() })
  const answered = await session.client().get('http://calc/')
  expect(own(await answered.json())).toEqual(pairs)
})

test('tags and variables of a task', () => {
  const words = NAMES.map((name) => `${name}:is-${name}`)
  const tags = NAMES.map((name) => [name, `is-${name}`])
  expect(own(parseDirectives(words.join(' ')).tag ?? {})).toEqual(tags)
  expect(own(parseTags(words))).toEqual(tags)
  expect(own(baseEnvironment(given()))).toEqual(pairs)
  expect(own(baseEnvironment({ MANYHOST_EXPORT_constructor: 'x' }))).toEqual([['constructor', 'x']])
})

const TYPES = { providers: { process: { parse: () => undefined, needsCommand: true } } }

test('providers, variables and labels of a fleet file', () => {
  const lines = (indent: string, value: (name: string) => string): string =>
    NAMES.map((name) => `${indent}${name}: ${value(name)}`).join('\n')
  const text = `
providers:
${lines('  ', () => '{ type: process }')}
services:
  http://calc:
    command: [node, x.js]
    provider: constructor
    env:
${lines('      ', (name) => `is ${name}`)}
    labels:
${lines('      ', (name) => `is ${name}`)}
  http://other:
    command: [node, x.js]
`
  const config = loadConfig({ text }, {}, TYPES)
  expect(Object.keys(config.providers).toSorted()).toEqual(NAMES.toSorted())
  const [calc] = config.services
  expect(calc?.provider).toBe('constructor')
  expect(own(calc?.options.env ?? {})).toEqual(pairs)
  expect(own(calc?.options.labels ?? {})).toEqual(pairs)
  // Nobody has named it here.
  const none = loadConfig({ text: 'services: {}' }, {}, TYPES)
  expect(none.providers.constructor).toBeUndefined()
})

test('labels in a template of Kubernetes', () => {
  const base = { metadata: { labels: { a: '1' } } }
  const merged = mergeTemplates(base, { metadata: { labels: given() } }) as typeof base
  expect([merged.metadata.labels.a, own(merged.metadata.labels)]).toEqual(['1', pairs])
})

test('a dict has what was put into it, and nothing else', () => {
  for (const empty of [createDict<string>(), createFields<string>()]) {
    for (const name of NAMES) expect(empty[name]).toBeUndefined()
    for (const [name = '', value = ''] of pairs) empty[name] = value
    expect([own(empty), Object.entries(empty)]).toEqual([pairs, pairs])
    expect(Object.keys(Object.getPrototypeOf(empty) ?? {})).toEqual([])
  }
  expect(own(createDict(given()))).toEqual(pairs)
  expect(own(dictFromEntries(pairs as [string, string][]))).toEqual(pairs)
})
