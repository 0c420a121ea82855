/** Tags: what users hang on tasks to find them again, `site:x run:7 final:true`. */
import { ManyhostError } from '../errors.ts'
import type { Tags, TagValue } from './task.ts'

const NAME = /^[A-Za-z0-9_.+-]{1,120}$/

/** Tags that one task may have. */
const MOST_TAGS = 100

/**
 * Reads `key:value`, or `key` for `key:true`. What looks like a number, `true`, `false` or `null` is one.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseTag(text: string): [key: string, value: TagValue] {
  const at = text.indexOf(':')
  const key = at < 0 ? text : text.slice(0, at)
  if (!NAME.test(key)) {
    throw invalid(`a tag's key has 1 to 120 of A-Z a-z 0-9 _ . + -, got ${shown(key)}`)
  }
  return [key, at < 0 ? true : checkValue(key, toValue(text.slice(at + 1)))]
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseTags(texts: readonly string[]): Tags {
  return checkTags(Object.fromEntries(texts.map(parseTag)))
}

/**
 * Tags that came as data.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function checkTags(given: unknown): Tags {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`tags are an object, got ${shown(given)}`)
  }
  const entries = Object.entries(given)
  if (entries.length > MOST_TAGS) throw invalid(`a task has at most ${MOST_TAGS} tags`)
  for (const [key, value] of entries) {
    if (!NAME.test(key)) {
      throw invalid(`a tag's key has 1 to 120 of A-Z a-z 0-9 _ . + -, got ${shown(key)}`)
    }
    checkValue(key, value)
  }
  return Object.fromEntries(entries) as Tags
}

function toValue(text: string): TagValue {
  if (text === 'true') return true
  if (text === 'false') return false
  if (text === 'null') return null
  // `007` is a name, and so is what no number holds exactly.
  const looksNumeric = /^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?$/.test(text)
  return looksNumeric && String(Number(text)) === text ? Number(text) : text
}

function checkValue(key: string, value: unknown): TagValue {
  if (value === null || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (typeof value === 'string' && (value === '' || NAME.test(value))) return value
  throw invalid(
    `tag ${key}: a value is a number, true, false, null, or up to 120 of A-Z a-z 0-9 _ . + -, got ${shown(value)}`,
  )
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 97)}...` : text
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
