/**
 * A batch of tasks: shell commands on runners, requests on the instances of a service, one store, every outcome.
 *
 *   node examples/batch/main.js
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Session } from 'manyhost'
import { openStore, runCluster, serveFrom } from 'manyhost/tasks'

const folder = mkdtempSync(join(tmpdir(), 'manyhost-batch-'))
const store = await openStore(join(folder, 'tasks.db'))

// Lines become commands by a template; what fails is tried again.
const words = ['apple # MANYHOST: kind:fruit', 'pear # MANYHOST: kind:fruit', 'leek', 'oops']
const run = runCluster(words, {
  store,
  numTasks: 4,
  template: 'test {} != oops && echo {= x.upper() =}',
  maxRetries: 1,
  onOutput: (task, _stream, chunk) => console.log(`${task.args}: ${Buffer.from(chunk)}`.trim()),
})
for await (const { args, attempt, exitStatus, willRetry } of run) {
  if (exitStatus !== 0)
    console.log(`${args}: attempt ${attempt} failed${willRetry ? ', again' : ''}`)
}
const { succeeded, failed, retried } = await run
console.log(`shell: ${succeeded} succeeded, ${failed} failed, ${retried} retried`)

// The store remembers, and can be asked.
const fruit = []
for await (const { args } of store.list({ tags: ['kind:fruit'] })) fruit.push(args)
console.log(`fruit: ${fruit.join(' ')}`)

// Requests are tasks as well: to the same instances that live requests go to, behind these.
const session = new Session()
session.startup({
  url: 'http://calc',
  command: [process.execPath, fileURLToPath(new URL('../calculator-server.js', import.meta.url))],
  initSize: 2,
  concurrency: 4,
})
const sums = Array.from({ length: 100 }, (_, n) => `GET http://calc/add/${n}/${n}`)
const served = await serveFrom(sums, { session, store, kind: 'request' })
console.log(`requests: ${served.succeeded} succeeded`)

await session.close()
await store.close()
rmSync(folder, { recursive: true })
