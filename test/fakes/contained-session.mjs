// Starts an instance that runs a shell script, and one that only sleeps. Tells the means and the guard's pid, and then
// does what it is told by lines: `stop`, `close`; answers each with `done`.
// Arguments: the folder of the built sources, the script, and how long the sleepers sleep: that tells them from others.
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const [folder, script, seconds] = process.argv.slice(2)
const { processes } = await import(pathToFileURL(`${folder}/providers/process/index.js`))
const provider = processes()

async function start(id, command) {
  const spec = {
    id,
    service: 'http://x',
    command,
    env: {},
    labels: {},
    concurrency: 1,
    onOutput() {},
  }
  return provider.start(spec, { signal: new AbortController().signal })
}

/** Our only child that is called so. */
function guard() {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
      const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      if (Number(parent) === process.pid && text.includes('manyhost-guard')) return Number(pid)
    } catch {}
  }
  return 0
}

const tricky = await start('tricky', ['/bin/sh', '-c', script])
await start('plain', ['/bin/sleep', seconds])
console.log('up')
for await (const line of createInterface(process.stdin)) {
  if (line === 'guard') console.log(guard())
  if (line === 'stop') await tricky.stop(0)
  if (line === 'close') await provider.close()
  if (line !== 'guard') console.log('done')
}
