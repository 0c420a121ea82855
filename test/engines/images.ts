/** Images without a registry: Node with what `ldd` names, busybox for a shell, and the tests' server. */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type Docker from 'dockerode'

/** What of busybox's the tests and the providers' own scripts call by name. */
const COMMANDS = 'sh cat echo kill mkdir mkfifo mv rm sleep ls env head setsid tar id'.split(' ')

/** Packages that the gateway of a fleet on Kubernetes has beside its own. */
const BESIDE = ['@kubernetes/client-node', 'tar-stream']

/** @param add puts more into the folder that becomes the image. */
export async function buildImage(
  api: Docker,
  folder: string,
  name: string,
  add: (root: string) => void = () => {},
): Promise<void> {
  const root = join(folder, 'image')
  addShell(root)
  for (const path of ['app', 'usr/bin']) mkdirSync(join(root, path), { recursive: true })
  copyFileSync(process.execPath, join(root, 'usr/bin/node'))
  const needed = execFileSync('ldd', [process.execPath], { encoding: 'utf8' })
  for (const [, path = ''] of needed.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    // Follows links; cpSync of Node 24 takes a link to a file for a folder.
    copyFileSync(path, join(root, path))
  }
  copyFileSync('test/fakes/conformance-server.mjs', join(root, 'app/conformance-server.mjs'))
  add(root)
  await importImage(api, root, name)
}

/** What a pod's network lives in: it waits, and ends when it is asked to. */
export async function buildPause(api: Docker, folder: string, name: string): Promise<void> {
  const root = join(folder, 'pause')
  addShell(root)
  const wait = 'trap "exit 0" INT TERM; sleep 2147483647 & wait'
  await importImage(api, root, name, `ENTRYPOINT ${JSON.stringify(['sh', '-c', wait])}`)
}

function addShell(root: string): void {
  for (const path of ['bin', 'tmp']) mkdirSync(join(root, path), { recursive: true })
  chmodSync(join(root, 'tmp'), 0o1777)
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'))
  for (const name of COMMANDS) symlinkSync('busybox', join(root, 'bin', name))
}

/** This package as `npm install --global` puts it there: compiled, with its dependencies. */
export function addManyhost(root: string): void {
  const to = join(root, 'usr/lib/manyhost')
  for (const name of ['package.json', 'dist', 'schema', ...dependencies()]) {
    cpSync(name, join(to, name), { recursive: true })
  }
  symlinkSync('/bin/env', join(root, 'usr/bin/env'))
  symlinkSync('../lib/manyhost/dist/src/cli/main.js', join(root, 'usr/bin/manyhost'))
  chmodSync(join(to, 'dist/src/cli/main.js'), 0o755)
}

interface Locked {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/** Folders of all packages that are needed when it runs, found as Node finds them. */
function dependencies(): string[] {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Readonly<Record<string, Locked>>
  }
  const found = new Set<string>()
  const visit = (name: string, from: string): void => {
    const beside = from === '' ? '' : `${from}/`
    const path = `${beside}node_modules/${name}`
    const locked = packages[path]
    if (!locked) {
      if (from !== '') visit(name, from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/'))))
    } else if (!found.has(path) && existsSync(path)) {
      found.add(path)
      visitAll(locked, path)
    }
  }
  const visitAll = (locked: Locked, path: string): void => {
    for (const name of Object.keys({ ...locked.dependencies, ...locked.optionalDependencies })) {
      visit(name, path)
    }
  }
  visitAll(packages[''] ?? {}, '')
  for (const name of BESIDE) visit(name, '')
  return [...found]
}

async function importImage(api: Docker, root: string, name: string, change = ''): Promise<void> {
  const tar = spawn('tar', ['-C', root, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [repo, tag] = name.split(':')
  const answer = await api.importImage(tar.stdout, {
    repo,
    tag,
    ...(change && { changes: change }),
  })
  for await (const chunk of answer)
    if (/"error"/.test(String(chunk))) throw new Error(String(chunk))
  rmSync(root, { recursive: true, force: true })
}
