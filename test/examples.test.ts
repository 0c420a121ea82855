/** Each example runs by itself, ends by itself, and says what README says of it. */
import { execFile, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const run = promisify(execFile)
const folder = fileURLToPath(new URL('../examples/', import.meta.url))

/** What each must print; a server that others start is none of them. */
const EXPECTED: Readonly<Record<string, readonly RegExp[]>> = {
  'calculator.js': [/kill -9 calc-/, /results: 0 2 4 .* 98/, /code="200",outcome="answered"\} 250/],
  'sizes.js': [/an integer: 2/, /a class: 2/, /idle: 0/, /wakes it up: 42/],
  'fetch.js': [/Node's fetch: 3/, /undici's request: 12/, /own fetch: 5/],
  'agent/agent.js': [
    /agent attic came/,
    /on the machine with a gpu: hello/,
    /results: .*38/,
    /with a gpu: .*3/,
    /agent attic left/,
    /after one has left: .*42/,
  ],
  'wire.js': [/first: 5 bytes/, /again, as the link ended: .*crash/, /third: 0 bytes/],
  'faults.js': [/40 requests, 40 answers/],
  'observability/otel.js': [
    /(the instance's trace is the caller's: true\n){3}/,
    /start http:\/\/flaky flaky-\w+-1 [\d.]+ ms/,
    /GET http:\/\/flaky \/0 .*\n {2}attempt 1 flaky-\w+-\d [\d.]+ ms connection\n {2}attempt 2 /,
  ],
  'requestor-proxy.js': [
    /by path: 0 2 4 6 8 ... 38/,
    /nobody: 404 MANYHOST_UNKNOWN_SERVICE/,
    /manyhost_requests_total\{service="http:\/\/calc".*\} 20/,
  ],
  'feed/publish.js': [/heard of ident: \{"data": "fefefefefefef"\}/],
  'feed/subscribe.js': [/channel ident: one\nchannel ident: two\nchannel ident: three/],
  'feed/pipeline.js': [/out: \{"broker":2,"hashes":\["d41d8cd98f00b204"\]\}/, /published: 3/],
  'batch/main.js': [
    /apple: APPLE/,
    /oops: attempt 1 failed, again\n(?:.*\n)*oops: attempt 2 failed\n/,
    /shell: 3 succeeded, 1 failed, 1 retried/,
    /fruit: apple pear/,
    /requests: 100 succeeded/,
  ],
  'pull-worker/main.js': [
    /words: 1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4/,
    hasCurl() ? /by: node shell/ : /by: node/,
    /refused: 422 .*7 is not of type 'string'/,
  ],
}

/** Without it a part of an example is left out, which is said aloud. */
function hasCurl(): boolean {
  const has = spawnSync('curl', ['--version']).status === 0
  if (!has)
    console.warn('SKIPPED: no curl, so the worker in shell of examples/pull-worker is not run')
  return has
}

/** Arguments of those that would else run until Ctrl-C. */
const ARGS: Readonly<Record<string, readonly string[]>> = { 'requestor-proxy.js': ['once'] }

describe('examples', () => {
  it('are all here', () => {
    const all = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    const files = all.filter((file) => /(?<!-server|worker|\/broker|lib\/provider)\.js$/.test(file))
    expect(files.toSorted()).toEqual(Object.keys(EXPECTED).toSorted())
  })

  it.each(Object.entries(EXPECTED))('%s', { timeout: 180_000 }, async (file, patterns) => {
    const { stdout } = await run(process.execPath, [folder + file, ...(ARGS[file] ?? [])], {
      timeout: 170_000,
    })
    for (const pattern of patterns) expect(stdout).toMatch(pattern)
  })
})
