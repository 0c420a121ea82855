/** The keys that a host may have, from the files of ssh itself (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'

interface KnownHostLine {
  readonly marker: string | undefined
  readonly names: string
  readonly type: string
  readonly key: string
}

export class KnownHosts {
  readonly #lines: readonly KnownHostLine[]

  constructor(texts: readonly string[]) {
    this.#lines = texts.flatMap((text) => text.split('\n').flatMap(parseLine))
  }

  /** A file that does not exist counts as empty. */
  static read(paths: readonly string[]): KnownHosts {
    return new KnownHosts(
      paths.map((path) => {
        try {
          return readFileSync(path, 'utf8')
        } catch {
          return ''
        }
      }),
    )
  }

  /** `unknown`: no line names the host. `wrong`: lines name it with other keys, or the key is revoked. */
  checkKey(host: string, port: number, key: Buffer): 'known' | 'unknown' | 'wrong' {
    const given = key.toString('base64')
    const lines = this.#linesFor(host, port)
    if (lines.some((line) => line.marker === '@revoked' && line.key === given)) return 'wrong'
    const plain = lines.filter(({ marker }) => marker === undefined)
    if (plain.some((line) => line.key === given)) return 'known'
    return plain.length > 0 ? 'wrong' : 'unknown'
  }

  /** The types of the host's known keys. They are asked for, because the host may have more keys than the known ones. */
  keyTypes(host: string, port: number): string[] {
    const plain = this.#linesFor(host, port).filter(({ marker }) => marker === undefined)
    return [...new Set(plain.map(({ type }) => type))]
  }

  #linesFor(host: string, port: number): KnownHostLine[] {
    const name = (port === 22 ? host : `[${host}]:${port}`).toLowerCase()
    return this.#lines.filter(({ names }) => matchesNames(names, name))
  }
}

function parseLine(text: string): KnownHostLine[] {
  const words = text.trim().split(/\s+/)
  if (words[0] === '' || words[0]?.startsWith('#')) return []
  const marker = words[0]?.startsWith('@') ? words.shift() : undefined
  const [names, type, key] = words
  return names && type && key ? [{ marker, names, type, key }] : []
}

function matchesNames(names: string, name: string): boolean {
  if (names.startsWith('|1|')) {
    const [, , salt = '', hash = ''] = names.split('|')
    const actual = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest()
    const expected = Buffer.from(hash, 'base64')
    return expected.length === actual.length && timingSafeEqual(expected, actual)
  }
  const patterns = names.toLowerCase().split(',')
  if (patterns.some((one) => one.startsWith('!') && matchesPattern(one.slice(1), name)))
    return false
  return patterns.some((one) => matchesPattern(one, name))
}

/**
 * Only `*` and `?` have a meaning. The last `*` is remembered and tried with one character more, so the time is at most
 * the product of the lengths: a file may come from somebody else.
 */
function matchesPattern(pattern: string, name: string): boolean {
  let [at, star, mark] = [0, -1, 0]
  let index = 0
  while (index < name.length) {
    if (pattern[at] === '?' || (pattern[at] === name[index] && pattern[at] !== '*')) {
      at++
      index++
    } else if (pattern[at] === '*') {
      star = at++
      mark = index
    } else if (star >= 0) {
      at = star + 1
      index = ++mark
    } else return false
  }
  while (pattern[at] === '*') at++
  return at === pattern.length
}

/** The fingerprint of a key, as `ssh-keygen -l` prints it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}
