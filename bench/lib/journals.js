/** The journals of the servers of one cell: who is up, and what each has executed. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export class Journals {
  path = mkdtempSync(join(tmpdir(), 'manyhost-bench-'))
  #struck = new Set()

  /** Servers that listen, by process id, without those that were struck before. */
  get up() {
    return readdirSync(this.path)
      .map(Number)
      .filter((pid) => !this.#struck.has(pid) && isAlive(pid))
  }

  /** Sends the signal to one of the servers that are up, or to all of them. They are children of this bench. */
  strike(signal, which, random) {
    const { up } = this
    const chosen = which === 'all' ? up : up.slice(Math.floor(random() * up.length)).slice(0, 1)
    for (const pid of chosen) this.#hit(pid, signal)
  }

  #hit(pid, signal) {
    this.#struck.add(pid)
    try {
      process.kill(pid, signal)
    } catch {
      // It ended a moment ago.
    }
  }

  /** How often each id was executed. */
  executions() {
    const counts = new Map()
    for (const name of readdirSync(this.path)) {
      for (const id of readFileSync(join(this.path, name), 'latin1').split('\n')) {
        if (id !== '') counts.set(id, (counts.get(id) ?? 0) + 1)
      }
    }
    return counts
  }

  remove() {
    rmSync(this.path, { recursive: true, force: true })
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
