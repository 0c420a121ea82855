// Starts three instances, one with a grandchild that leaves its process group, tells their pids, and stays.
// Arguments: the folder of the built providers, and a command that runs for long.
import { pathToFileURL } from 'node:url'

const [folder] = process.argv.slice(2)
const { processes } = await import(pathToFileURL(`${folder}/process/index.js`))
const provider = processes({ listen: 'unix' })

const pids = []
const onOutput = (text) => {
  pids.push(...text.trim().split(/\s+/).map(Number))
  if (pids.length === 5) console.log(JSON.stringify(pids))
}

const scripts = [
  'echo $$; exec sleep 1000',
  'trap "" TERM HUP INT; sleep 1000 & echo $$ $!; wait',
  // One line by one process: the pids of the grandchild and of its parent.
  'setsid sh -c "echo \\$\\$ $$; exec sleep 1000" & exec sleep 1000',
]
for (const [index, script] of scripts.entries()) {
  const spec = {
    id: `guarded-${index}`,
    service: 'http://guarded',
    command: ['sh', '-c', script],
    env: {},
    labels: {},
    concurrency: 1,
    onOutput,
  }
  await provider.start(spec, { signal: new AbortController().signal })
}
