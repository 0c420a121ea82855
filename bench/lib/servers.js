/** Servers of the bench: each script runs in a process of its own, on the core for servers. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { onServerCore } from './cores.js'

export function serverScript(name) {
  return fileURLToPath(new URL(`../servers/${name}.mjs`, import.meta.url))
}

/** Microseconds of CPU that a process has used, all its threads together; NaN where the kernel does not say. */
function cpuOf(pid) {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`)
    const used = tasks.map((task) =>
      Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
    )
    return used.reduce((sum, ns) => sum + ns, 0) / 1_000
  } catch {
    return Number.NaN
  }
}

/** Starts a script that tells its ports when it listens. @returns its URLs, `send` to it, `cpu` in us, and `stop` */
export async function startServers(name, ...args) {
  const [command, ...rest] = onServerCore([
    process.execPath,
    serverScript(name),
    ...args.map(String),
  ])
  const child = spawn(command, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [{ ports }] = await once(child, 'message')
  return {
    urls: ports.map((port) => `http://127.0.0.1:${port}`),
    send: (message) => child.send(message),
    cpu: () => cpuOf(child.pid),
    stop: async () => {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}
