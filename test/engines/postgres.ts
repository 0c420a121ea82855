/** A PostgreSQL 15 in a folder of its own, for tests that ask it, cut it off and start it again. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { waitUntil } from '../help.ts'

const BIN = '/usr/lib/postgresql/15/bin'
export const POSTGRES = `${BIN}/postgres`

export interface Postgres {
  /** `postgres://...`, with a password that it does not ask for. */
  readonly url: string
  /** Resolves when it answers. */
  start(): Promise<void>
  /** At once, as a crash does. */
  stop(): Promise<void>
  /** Stops it, and removes all that it had. */
  remove(): Promise<void>
}

export async function createPostgres(): Promise<Postgres> {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-postgres-'))
  // It does not run as root.
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  const as = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : {}
  if (as.uid !== undefined) chownSync(folder, as.uid, as.gid as number)
  const data = join(folder, 'data')
  const run = { ...as, cwd: folder, env: { ...process.env, LC_ALL: 'C.UTF-8' } }
  execFileSync(
    `${BIN}/initdb`,
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    { ...run, stdio: 'ignore' },
  )
  const port = await freePort()
  const args = ['-D', data, '-p', String(port), '-k', folder, '-c', 'listen_addresses=127.0.0.1']
  const url = `postgres://postgres:s3cret@127.0.0.1:${port}/postgres`
  let server: ChildProcess | undefined

  const answers = async (): Promise<boolean> => {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query('select 1')
      return true
    } catch {
      return false
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  const stop = async (): Promise<void> => {
    if (!server || server.exitCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGQUIT')
    await ended
  }
  return {
    url,
    async start() {
      server = spawn(POSTGRES, [...args, '-c', 'fsync=off'], { ...run, stdio: 'ignore' })
      await waitUntil(answers, 'PostgreSQL is up')
    },
    stop,
    async remove() {
      await stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
