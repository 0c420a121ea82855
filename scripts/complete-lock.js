// Run after every `npm install` that changed package-lock.json: `node scripts/complete-lock.js`.
// npm writes only those platforms' optional packages into the lock that its registry offers; `npm ci` then refuses a
// lock without the others. Platform packages pin their versions, so that what is missing can be written from the lock
// itself; a machine of such a platform fetches them by name and version.
import { readFileSync, writeFileSync } from 'node:fs'

const file = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(file, 'utf8'))
const { packages } = lock

const SYSTEM = /(android|darwin|linux|win32|freebsd|openharmony|aix|sunos|netbsd|openbsd)/
const PROCESSORS = 'arm64 x64 ia32 ppc64 riscv64 s390x loong64 mips64el wasm32 arm'.split(' ')

/** Where a package runs, as its name says: binding-linux-arm64-musl. */
function platform(name) {
  const cpu = PROCESSORS.find((processor) => name.includes(processor))
  const os = SYSTEM.exec(name)?.[1]
  return {
    ...(cpu && { cpu: [cpu] }),
    ...(os && { os: [os] }),
    ...(name.includes('musl') && { libc: ['musl'] }),
  }
}

let added = 0
for (const [path, entry] of Object.entries({ ...packages })) {
  for (const [name, spec] of Object.entries(entry.optionalDependencies ?? {})) {
    if (packages[`node_modules/${name}`] || packages[`${path}/node_modules/${name}`]) continue
    packages[`node_modules/${name}`] = {
      version: spec.replace(/^[\^~]/, ''),
      ...(entry.dev && { dev: true }),
      optional: true,
      ...platform(name.slice(name.lastIndexOf('/') + 1)),
    }
    added++
  }
}
const ordered = Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1))
lock.packages = Object.fromEntries(ordered)
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${added} packages of other platforms written into the lock`)
