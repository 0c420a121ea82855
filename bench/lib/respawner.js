/** Servers on fixed ports, each started again as soon as it has ended: what a client without a cluster is given. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { onServerCore } from './cores.js'
import { serverScript } from './servers.js'

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => server.address().port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}

export async function respawning(count, journals) {
  const [command, ...args] = onServerCore([process.execPath, serverScript('journal')])
  const children = new Map()
  let stopping = false
  const start = (port) => {
    const env = { ...process.env, PORT: String(port), JOURNAL: journals.path }
    const child = spawn(command, args, { env, stdio: 'ignore' })
    children.set(port, child)
    child.once('exit', () => {
      if (!stopping) start(port)
    })
  }
  const ports = await freePorts(count)
  for (const port of ports) start(port)
  while (journals.up.length < count) await sleep(5)
  const stop = async () => {
    stopping = true
    const ends = [...children.values()].map((child) => once(child, 'exit'))
    for (const child of children.values()) child.kill('SIGKILL')
    await Promise.all(ends)
  }
  return { urls: ports.map((port) => `http://127.0.0.1:${port}`), stop }
}
