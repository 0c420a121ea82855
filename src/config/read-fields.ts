/** Reads the values of a tree by rules: converts units, refuses unknown keys, and reports every mistake at its place. */
import { asError, ManyhostError } from '../core/errors.ts'
import { type Form, holdsSecret, type NumberForm, type Rule, type Rules } from '../core/options.ts'
import { parseBytes, parseDuration } from '../core/units.ts'
import { findNearest } from './nearest.ts'
import type { TextSpan } from './problem.ts'
import type { ConfigReader } from './reader.ts'
import type { YamlMapping, YamlScalar, YamlTree } from './yaml-tree.ts'

/** The value is wrong, which was reported already. */
const INVALID = Symbol('bad')
/** The value does not have the form of its rule. The caller reports it, because the caller knows the range. */
const WRONG_FORM = Symbol('misfit')

/** Maximum depth of values that no rule describes. */
const MAX_DEPTH = 20

/** The value in the form that its rule accepts. Otherwise INVALID, and the mistake is reported. */
function readValue(
  reader: ConfigReader,
  node: YamlTree,
  rule: Rule<unknown>,
  path: string,
): unknown {
  reader.countValue(node)
  const { form } = rule
  if (!form) return INVALID
  const value = convertNode(reader, node, form, path)
  if (value === INVALID) return INVALID
  try {
    if (value !== WRONG_FORM && rule.parse(value) !== undefined) return value
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    reader.reportProblem(node, path, `${path}: ${reader.redact(asError(error).message)}`)
    return INVALID
  }
  reader.reportProblem(
    node,
    path,
    `${path} must be ${describeRange(rule)}, got ${describeNode(reader, node, form)}`,
  )
  return INVALID
}

export interface FieldOptions {
  readonly required?: readonly string[]
  /** Keys that have readers of their own. */
  readonly readers?: Readonly<Record<string, (node: YamlTree, path: string) => void>>
  /** Keys that are skipped. */
  readonly isIgnored?: (name: string) => boolean
}

/** The values of a mapping. `null`, from a key with nothing below it, is an empty mapping. Undefined if it is no mapping. */
export function readFields(
  reader: ConfigReader,
  node: YamlTree,
  rules: Rules,
  path: string,
  { required = [], readers = {}, isIgnored = () => false }: FieldOptions = {},
): Record<string, unknown> | undefined {
  reader.countValue(node)
  const names = [...Object.keys(rules).filter((name) => rules[name]?.form), ...Object.keys(readers)]
  if (!isMappingLike(node)) {
    const what = `a mapping with keys of ${names.join(', ')}`
    reader.reportProblem(
      node,
      path,
      `${path || 'the file'} must be ${what}, got ${describeNode(reader, node)}`,
    )
    return undefined
  }
  const values: Record<string, unknown> = {}
  const entries = node.kind === 'mapping' ? node.entries : new Map()
  for (const [name, { key, value }] of entries as YamlMapping['entries']) {
    const at = joinPath(path, name)
    if (isIgnored(name)) continue
    if (Object.hasOwn(readers, name)) readers[name]?.(value, at)
    else if (!names.includes(name))
      reportUnknownKey(reader, { name, key, value }, rules, path, names)
    else {
      const read = readValue(reader, value, rules[name] as Rule<unknown>, at)
      if (read !== INVALID) values[name] = read
    }
  }
  for (const name of required) {
    if (!entries.has(name))
      reader.reportProblem(node, joinPath(path, name), `${joinPath(path, name)} is missing`)
  }
  return values
}

export function isMappingLike(node: YamlTree): boolean {
  return node.kind === 'mapping' || (node.kind === 'scalar' && node.value === null)
}

export function getEntry(node: YamlTree, name: string): YamlTree | undefined {
  return node.kind === 'mapping' ? node.entries.get(name)?.value : undefined
}

export function joinPath(path: string, name: string): string {
  const short = truncate(name)
  return path ? `${path}.${short}` : short
}

function reportUnknownKey(
  reader: ConfigReader,
  { name, key, value }: { name: string; key: TextSpan; value: YamlTree },
  rules: Rules,
  path: string,
  names: readonly string[],
): void {
  reader.countValue(key)
  // The name of the key is a mistake, but its value may still be a secret.
  reader.markSecret(value)
  const at = joinPath(path, name)
  if (Object.hasOwn(rules, name)) {
    reader.reportProblem(key, at, `${at} is ${rules[name]?.range}: it can be given in code only`)
    return
  }
  const near = findNearest(name, names)
  const question = near ? `; did you mean '${near}'?` : ''
  const where = path || 'the file'
  reader.reportProblem(
    key,
    at,
    `${where} has no key '${truncate(name)}'${question}`,
    `allowed: ${names.join(', ')}`,
  )
}

function convertNode(reader: ConfigReader, node: YamlTree, form: Form, path: string): unknown {
  switch (form.is) {
    case 'options': {
      if (!isMappingLike(node)) return WRONG_FORM
      const before = reader.problemCount
      const { required = [] } = form
      const fields = readFields(reader, node, form.rules, path, { required })
      return reader.problemCount > before ? INVALID : fields
    }
    case 'record':
      return node.kind === 'mapping' ? convertRecord(reader, node, form.of, path) : WRONG_FORM
    case 'list':
      return node.kind === 'list' ? convertList(reader, node.items, form.of, path) : WRONG_FORM
    case 'either':
      return convertEither(reader, node, form.forms, path)
    case 'tree':
      return node.kind === 'mapping' ? toPlainData(reader, node, path, 0) : WRONG_FORM
    default:
      return node.kind === 'scalar' ? convertScalar(reader, node, form, path) : WRONG_FORM
  }
}

function convertRecord(
  reader: ConfigReader,
  node: YamlMapping,
  of: Rule<unknown>,
  path: string,
): unknown {
  const read = [...node.entries].map(
    ([name, { value }]) => [name, readMaybeText(reader, value, of, joinPath(path, name))] as const,
  )
  return read.some(([, value]) => value === INVALID) ? INVALID : Object.fromEntries(read)
}

function convertList(
  reader: ConfigReader,
  items: readonly YamlTree[],
  of: Rule<unknown>,
  path: string,
): unknown {
  const read = items.map((item, index) => readMaybeText(reader, item, of, `${path}[${index}]`))
  return read.includes(INVALID) ? INVALID : read
}

/** In lists and records of texts, `8080` and `true` are texts as they are written. */
function readMaybeText(
  reader: ConfigReader,
  node: YamlTree,
  of: Rule<unknown>,
  path: string,
): unknown {
  const isText = of.form?.is === 'text'
  const literal = node.kind === 'scalar' && node.isUnquoted && node.value !== null
  return readValue(reader, isText && literal ? { ...node, value: node.sourceText } : node, of, path)
}

/** The value by the first form that fits. */
function convertEither(
  reader: ConfigReader,
  node: YamlTree,
  forms: readonly Form[],
  path: string,
): unknown {
  for (const form of forms) {
    const value = convertNode(reader, node, form, path)
    if (value !== WRONG_FORM) return value
  }
  return WRONG_FORM
}

function convertScalar(reader: ConfigReader, node: YamlScalar, form: Form, path: string): unknown {
  if (form.is === 'text' && form.secret) reader.markSecret(node)
  const read = reader.resolveScalar(node, path)
  if (!read) return INVALID
  const { value, substituted } = read
  switch (form.is) {
    case 'number':
      if (typeof value === 'string') return parseNumber(value, form, substituted)
      return typeof value === 'number' ? value : WRONG_FORM
    case 'flag':
      if (substituted && (value === 'true' || value === 'false')) return value === 'true'
      return typeof value === 'boolean' ? value : WRONG_FORM
    case 'choice':
      return typeof value === 'string' && form.names.includes(value) ? value : WRONG_FORM
    default:
      return typeof value === 'string' ? value : WRONG_FORM
  }
}

/** A tree as plain data. */
export function toPlainData(
  reader: ConfigReader,
  node: YamlTree,
  path: string,
  depth: number,
): unknown {
  reader.countValue(node)
  if (depth > MAX_DEPTH) {
    reader.reportProblem(node, '', `options of providers may be at most ${MAX_DEPTH} levels deep`)
    return null
  }
  if (node.kind === 'scalar') return toPlainScalar(reader, node, path)
  if (node.kind === 'list') {
    return node.items.map((item, index) =>
      toPlainData(reader, item, `${path}[${index}]`, depth + 1),
    )
  }
  return Object.fromEntries(
    [...node.entries].map(([name, { value }]) => [
      name,
      toPlainData(reader, value, joinPath(path, name), depth + 1),
    ]),
  )
}

/** A substituted text without quotes is read as if it were written in the file. */
function toPlainScalar(reader: ConfigReader, node: YamlScalar, path: string): unknown {
  const read = reader.resolveScalar(node, path)
  if (!read?.substituted || !node.isUnquoted) return read?.value ?? null
  if (read.value === 'true' || read.value === 'false') return read.value === 'true'
  const text = String(read.value)
  return /^-?(0|[1-9]\d{0,14})(\.\d{1,15})?$/.test(text) ? Number(text) : text
}

/**
 * A text as a number. A number that was substituted counts as if it stood there without quotes. Any other text is read
 * by its unit; without one, a duration is seconds and a size is bytes.
 */
function parseNumber(
  text: string,
  form: NumberForm,
  substituted: boolean,
): number | typeof WRONG_FORM {
  if (substituted && /^-?\d{1,20}(\.\d{1,20})?$/.test(text)) return Number(text)
  if (form.unlimited && (text === 'unlimited' || text === 'Infinity')) {
    return Number.POSITIVE_INFINITY
  }
  if (form.unit === 'ms') return parseDuration(text) ?? WRONG_FORM
  return (form.unit === 'bytes' ? parseBytes(text) : undefined) ?? WRONG_FORM
}

/** The range of a rule, in the terms of a file. */
export function describeRange({ range, form }: Rule<unknown>): string {
  const forms = form?.is === 'either' ? form.forms : [form]
  const written = forms.flatMap((one) => {
    if (one?.is !== 'number') return []
    return one.unit === 'ms'
      ? [", or like '30s'"]
      : one.unit === 'bytes'
        ? [", or like '1MiB'"]
        : []
  })
  return range.replaceAll('Infinity', "'unlimited'") + written.join('')
}

/** The value of a node for a message; never a substituted text or a secret. */
export function describeNode(reader: ConfigReader, node: YamlTree, form?: Form): string {
  if (form && holdsSecret(form)) {
    reader.markSecret(node)
    return 'something else (it is not shown)'
  }
  if (node.kind !== 'scalar') return node.kind === 'list' ? 'a list' : 'a mapping'
  if (node.value === null) return 'nothing'
  if (typeof node.value !== 'string') return truncate(node.sourceText)
  return JSON.stringify(truncate(node.value))
}

/** Shortens a text for a message. */
function truncate(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text
}
