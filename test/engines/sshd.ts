/** An sshd on a high port of the loopback address, with keys of its own, in a folder. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { waitUntil } from '../providers/process-help.ts'

const call = promisify(execFile)

export interface Sshd {
  readonly port: number
  readonly folder: string
  /** A file of host keys that knows this one. */
  readonly knownHosts: string
  readonly hostKey: string
  /** File of the user's private key. */
  readonly key: string
  readonly child: ChildProcess
  log(): string
  close(): Promise<void>
}

export async function openSshd(): Promise<Sshd> {
  const folder = mkdtempSync(join(tmpdir(), 'mh-sshd-'))
  const file = (name: string): string => join(folder, name)
  for (const name of ['host', 'user']) {
    await call('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)])
  }
  const port = await freePort()
  writeFileSync(
    file('sshd_config'),
    `Port ${port}
ListenAddress 127.0.0.1
HostKey ${file('host')}
PidFile ${file('pid')}
AuthorizedKeysFile ${file('user')}.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
LogLevel INFO
`,
  )
  const hostKey = readFileSync(`${file('host')}.pub`, 'utf8')
  writeFileSync(file('known_hosts'), `[127.0.0.1]:${port} ${hostKey}`)
  await call('mkdir', ['-p', '/run/sshd'])
  const child = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', file('sshd_config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let text = ''
  child.stderr?.on('data', (chunk) => {
    text += chunk
  })
  await waitUntil(() => text.includes('Server listening'), 20_000)
  return {
    port,
    folder,
    knownHosts: file('known_hosts'),
    hostKey,
    key: file('user'),
    child,
    log: () => text,
    close: async () => {
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGCONT')
      child.kill('SIGTERM')
      await exited
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0))
    })
  })
}
