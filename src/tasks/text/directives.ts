/**
 * What a line says of its own task: `simulate 7 # MANYHOST: cores:2 memory:2GB timeout:30 group:4 site:x`. A line of
 * nothing but a directive says it of all that follow. Any other `#` belongs to the command.
 */

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

/** Groups beyond this are a slip. */
const MAX_GROUP = 1_000_000_000

/** At the beginning of the line, or after a space: `a#MANYHOST:` is a word of the command. */
const DIRECTIVE = /(^|\s)#\s*(?:MANYHOST|HYPERSHELL):(.*)$/s

export interface SplitLine {
  /** The command as it was written; of a line with a directive, without that and the spaces before it. */
  readonly command: string
  readonly directives: Directives
}

/**
 * Takes a line apart.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, for a directive that says nothing that is known
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
 * `cores:2 memory:2GB timeout:30 group:4`; what is none of these is a tag. Also `timeout=30`, and commas between.
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
        const [name, said] = parseTag(value === undefined ? word : `${key}:${value}`)
        tags.set(name, said)
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

/** Later ones win; tags are added to tags. */
export function mergeDirectives(first: Directives, second: Directives): Directives {
  if (Object.keys(second).length === 0) return first
  const tag = first.tag || second.tag ? { tag: { ...first.tag, ...second.tag } } : {}
  return { ...first, ...second, ...tag }
}

/** Half a core is one as well. */
function parseCores(value = ''): number {
  const number = /^\d{1,7}(?:\.\d{1,9})?$/.test(value) ? Number(value) : Number.NaN
  if (number > 0 && number <= 1_000_000) return number
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `cores is a number above 0, up to 1000000, got ${JSON.stringify(value)}`,
  )
}

function parseGroup(value = ''): number {
  const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN
  if (number <= MAX_GROUP) return number
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `group is a whole number from 0 to ${MAX_GROUP}, got ${JSON.stringify(value)}`,
  )
}
