/**
 * Tags: users give them to tasks to find these again, `site:x run:7 final:true`. Everything about reading, checking, writing
 * and finding tags is in this file. Each value has exactly one text, the one that a template gives (`{site}`). That text finds
 * the value, and no other value.
 */

import { ManyhostError } from '../../core/errors.ts'
import { createDict, dictFromEntries } from '../../core/null-prototype.ts'
import type { Tags, TagValue } from '../model/task.ts'
import { parseJson, toJson } from './exact-json.ts'

const NAME = /^[A-Za-z0-9_.+-]{1,120}$/

/** Most tags of one task. */
export const MAX_TAGS = 1_000

/**
 * The value that a text stands for: `true`, `false`, `null`, or a number if that number is written as this very text. So
 * `1.10`, `1.0`, `-0` and `007` stay texts, because the numbers 1.1, 1, 0 and 7 are written differently.
 */
export function parseTagValue(text: string): TagValue {
  if (text === 'true') return true
  if (text === 'false') return false
  if (text === 'null') return null
  if (!/^-?\d/.test(text)) return text
  const number = Number(text)
  if (/^-?(?:0|[1-9]\d*)$/.test(text) && text !== '-0') {
    return Number.isSafeInteger(number) ? number : BigInt(text)
  }
  return Number.isFinite(number) && String(number) === text ? number : text
}

/** The JSON of the values that the store may have for a tag with this text: the text itself, and the value it stands for. */
export function tagLiterals(text: string): readonly string[] {
  const value = parseTagValue(text)
  return typeof value === 'string' ? [toJson(text)] : [toJson(text), toJson(value)]
}

/**
 * Reads `key:value`; `key` alone means `key:true`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseTag(text: string): [key: string, value: TagValue] {
  const at = text.indexOf(':')
  const key = at < 0 ? text : text.slice(0, at)
  const value = at < 0 ? 'true' : text.slice(at + 1)
  // The text is checked before it becomes a number, since a number has no length limit of its own.
  const problem = findTagProblem(key, value)
  if (problem) throw invalid(problem)
  return [key, parseTagValue(value)]
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseTags(texts: readonly string[]): Tags {
  return checkTags(dictFromEntries(texts.map(parseTag)))
}

/**
 * Reads a condition on tags: `key:value`, or `key` for any value.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseTagFilter(text: string): { key: string; values?: readonly string[] } {
  const at = text.indexOf(':')
  const [key] = parseTag(text)
  return at < 0 ? { key } : { key, values: tagLiterals(text.slice(at + 1)) }
}

/**
 * Checks tags that came as data.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function checkTags(given: unknown): Tags {
  const problem = findTagsProblem(given)
  if (problem) throw invalid(problem)
  return createDict(given as Tags)
}

/** Why these cannot be the tags of a task; undefined if they can. */
export function findTagsProblem(given: unknown): string | undefined {
  if (given === undefined) return undefined
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return `tags must be an object, got ${shorten(given)}`
  }
  const entries = Object.entries(given)
  if (entries.length > MAX_TAGS) {
    return `a task can have at most ${MAX_TAGS} tags, got ${entries.length}`
  }
  for (const [key, value] of entries) {
    const problem = findTagProblem(key, value)
    if (problem) return problem
  }
  return undefined
}

/** Why this cannot be a tag; undefined if it can. */
export function findTagProblem(key: string, value: unknown): string | undefined {
  if (!NAME.test(key)) {
    return `the key of a tag must be 1 to 120 characters of A-Z a-z 0-9 _ . + -, got ${shorten(key)}`
  }
  if (value === null || typeof value === 'boolean' || Number.isFinite(value)) return undefined
  if (value === '' || (isTextual(value) && NAME.test(String(value)))) return undefined
  return `tag ${key}: a value must be a number, true, false, null, or up to 120 characters of A-Z a-z 0-9 _ . + -, got ${shorten(value)}`
}

function isTextual(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'bigint'
}

/** The JSON that the store keeps. */
export function tagsToJson(tags: Tags | undefined): string {
  return tags ? toJson(toExactTags(tags)) : '{}'
}

export function tagsFromJson(text: string): Tags {
  return text === '{}' ? {} : (parseJson(text) as Tags)
}

/**
 * The same tags, with large whole numbers as bigints, because `JSON.stringify(2 ** 60)` does not write the digits of 2^60.
 * From 10^21 up a number is written with an exponent, which is exact again.
 */
export function toExactTags(tags: Tags): Tags {
  const entries = Object.entries(tags)
  if (!entries.some(([, value]) => isInexact(value))) return tags
  return dictFromEntries(
    entries.map(([key, value]) => [key, isInexact(value) ? BigInt(value) : value]),
  )
}

function isInexact(value: TagValue): value is number {
  return (
    typeof value === 'number' &&
    Number.isInteger(value) &&
    !Number.isSafeInteger(value) &&
    Math.abs(value) < 1e21
  )
}

function shorten(value: unknown): string {
  let text: string
  try {
    text = toJson(value) ?? String(value)
  } catch {
    text = typeof value
  }
  return text.length > 100 ? `${text.slice(0, 97)}...` : text
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
