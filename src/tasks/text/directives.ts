/**
 * Directives of a line for its own task: `simulate 7 # MANYHOST: cores:2 memory:2GB timeout:30 group:4 site:x`. A line that
 * is nothing but directives sets them for all following tasks. Any other `#` belongs to the command.
 */

import { describe } from '../../core/describe.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { dictFromEntries } from '../../core/null-prototype.ts'
import { requireBytes } from '../../core/units.ts'
import type { Tags, TagValue } from '../model/task.ts'
import { checkTags, parseTag } from './tags.ts'
import { parseTaskDuration } from './units.ts'

/** What directives can set. */
export interface Directives {
  readonly group?: number
  readonly cores?: number
  /** Bytes. */
  readonly memory?: number
  /** Milliseconds. */
  readonly timeout?: number
  readonly tag?: Tags
}

/** A larger group is a mistake. */
const MAX_GROUP = 1_000_000_000

/** Stands at the beginning of the line or after a space: in `a#MANYHOST:` it belongs to a word of the command. */
const DIRECTIVE = /(^|\s)#\s*(?:MANYHOST|HYPERSHELL):(.*)$/s

export interface SplitLine {
  /** The command as it was written, without the directives and the spaces before them. */
  readonly command: string
  readonly directives: Directives
}

/**
 * Splits a line into its command and its directives.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for a directive with an invalid value
 */
export function splitLine(line: string): SplitLine {
  const match = line.includes('#') ? DIRECTIVE.exec(line) : null
  if (!match) return { command: line.replace(/^\r+/, ''), directives: {} }
  return {
    command: line.slice(0, match.index).trimEnd(),
    directives: parseDirectives(match[2] as string),
  }
}

/**
 * Reads `cores:2 memory:2GB timeout:30 group:4`. Every other word is a tag. `timeout=30` and commas in between are read, too.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseDirectives(text: string): Directives {
  const found: { -readonly [Name in keyof Directives]: Directives[Name] } = {}
  const tags = new Map<string, TagValue>()
  for (const word of text.split(/[\s,]+/)) {
    if (word === '') continue
    const [, key, value] = /^([^:=]*)[:=](.*)$/s.exec(word) ?? [word, word, undefined]
    try {
      if (key === 'cores') found.cores = parseCores(value)
      else if (key === 'memory') found.memory = requireBytes(value ?? '')
      else if (key === 'timeout') found.timeout = parseTaskDuration(value ?? '')
      else if (key === 'group') found.group = parseGroup(value)
      else {
        const [name, tag] = parseTag(value === undefined ? word : `${key}:${value}`)
        tags.set(name, tag)
      }
    } catch (error) {
      const shown = word.length > 100 ? `${word.slice(0, 97)}...` : word
      throw new ManyhostError(
        'MANYHOST_INVALID_OPTION',
        `directive ${JSON.stringify(shown)}: ${describeError(error)}`,
        { cause: error },
      )
    }
  }
  return tags.size > 0 ? { ...found, tag: checkTags(dictFromEntries(tags)) } : found
}

/** Directives of `second` replace those of `first`; tags are added to tags. */
export function mergeDirectives(first: Directives, second: Directives): Directives {
  if (Object.keys(second).length === 0) return first
  const tag = first.tag || second.tag ? { tag: { ...first.tag, ...second.tag } } : {}
  return { ...first, ...second, ...tag }
}

/** `0.5` is half a core. */
function parseCores(value = ''): number {
  const number = /^\d{1,7}(?:\.\d{1,9})?$/.test(value) ? Number(value) : Number.NaN
  if (number > 0 && number <= 1_000_000) return number
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `cores must be a number above 0, up to 1000000, got ${describe(value)}`,
  )
}

function parseGroup(value = ''): number {
  const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN
  if (number <= MAX_GROUP) return number
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `group must be a whole number from 0 to ${MAX_GROUP}, got ${describe(value)}`,
  )
}
