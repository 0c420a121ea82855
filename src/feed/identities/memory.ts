/** Identities that are given as data; and several sources, asked one after the other. */

import { describe } from '../../core/describe.ts'
import { ManyhostError } from '../../core/errors.ts'
import { isPromiseLike } from '../../core/promise.ts'
import { isIdent, MAX_NAME_BYTES } from '../frame.ts'
import type { Identity, IdentitySource } from '../rights.ts'

/** Identities by ident. `pubchans` and `subchans` are the original's names of `publish` and `subscribe`. */
export type IdentityTable = Readonly<Record<string, IdentityEntry>>

export interface IdentityEntry {
  readonly secret: string
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
  readonly pubchans?: readonly string[]
  readonly subchans?: readonly string[]
  readonly owner?: string
}

const ENTRY_KEYS = ['secret', 'publish', 'subscribe', 'pubchans', 'subchans', 'owner']

/** @throws ManyhostError MANYHOST_INVALID_OPTION, which never shows a secret */
export function parseIdentityTable(where: string, table: unknown): Map<string, Identity> {
  if (typeof table !== 'object' || table === null || Array.isArray(table)) {
    throw invalid(`${where} must be an object with idents as keys`)
  }
  return new Map(
    Object.entries(table).map(([ident, entry]) => [ident, parseIdentityEntry(where, ident, entry)]),
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseIdentityEntry(where: string, ident: string, entry: unknown): Identity {
  const at = `${where}: ${describe(ident)}`
  if (!isIdent(ident)) throw invalid(`${at}: an ident must have 1 to ${MAX_NAME_BYTES} bytes`)
  if (typeof entry !== 'object' || entry === null) {
    throw invalid(`${at} must be { secret, publish, subscribe }`)
  }
  for (const key of Object.keys(entry)) {
    if (!ENTRY_KEYS.includes(key))
      throw invalid(`${at}: unknown key ${describe(key)}; known: ${ENTRY_KEYS.join(', ')}`)
  }
  const { secret, owner, ...lists } = entry as Record<string, unknown>
  if (typeof secret !== 'string' || secret === '')
    throw invalid(`${at}: secret must be a text that is not empty`)
  if (owner !== undefined && owner !== null && typeof owner !== 'string') {
    throw invalid(`${at}: owner must be a text`)
  }
  const publish = parseChannels(at, 'publish', lists.publish ?? lists.pubchans)
  const subscribe = parseChannels(at, 'subscribe', lists.subscribe ?? lists.subchans)
  return { ident, secret, publish, subscribe, ...(owner ? { owner } : {}) }
}

function parseChannels(at: string, name: string, given: unknown): readonly string[] {
  if (given === undefined || given === null) return []
  const isList = Array.isArray(given) && given.every((one) => typeof one === 'string')
  if (!isList) throw invalid(`${at}: ${name} must be a list of channels, got ${describe(given)}`)
  return given
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function fromMemory(table: IdentityTable): IdentitySource {
  const identities = parseIdentityTable('identities', table)
  return { find: (ident) => identities.get(ident) }
}

/** Asks the sources one after the other: the first that knows the ident answers. If a source fails, the lookup fails. */
export function chain(...sources: readonly IdentitySource[]): IdentitySource {
  return {
    find(ident) {
      for (const [index, source] of sources.entries()) {
        const found = source.find(ident)
        if (isPromiseLike(found)) {
          return Promise.resolve(found).then((one) => one ?? findInRest(sources, index, ident))
        }
        if (found) return found
      }
      return undefined
    },
    async start(onError) {
      for (const source of sources) await source.start?.(onError)
    },
    async close() {
      for (const source of sources) await source.close?.()
    },
  }
}

async function findInRest(
  sources: readonly IdentitySource[],
  before: number,
  ident: string,
): Promise<Identity | undefined> {
  for (const source of sources.slice(before + 1)) {
    const found = await source.find(ident)
    if (found) return found
  }
  return undefined
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `Feed: ${message}`)
}
