/** Values of a tree by the rules of their owners: units read, strangers refused, every mistake at its place. */
import { asError, ManyhostError } from '../core/errors.ts'
import type { Form, NumberForm, Rule, Rules } from '../core/options.ts'
import { nearest } from './nearest.ts'
import type { Span } from './problem.ts'
import type { Reader } from './reader.ts'
import type { Mapping, Scalar, Tree } from './tree.ts'
import { bytes, milliseconds } from './units.ts'

/** Was reported already. */
const BAD = Symbol('bad')
/** Is not of the form; the one who knows the range says so. */
const MISFIT = Symbol('misfit')

/** Levels of what no rule describes. */
const DEEPEST = 20

/** A value in the terms of its rule, which takes it. Reported and BAD otherwise. */
function readValue(reader: Reader, node: Tree, rule: Rule<unknown>, path: string): unknown {
  reader.look(node)
  const { form } = rule
  if (!form) return BAD
  const value = convert(reader, node, form, path)
  if (value === BAD) return BAD
  try {
    if (value !== MISFIT && rule.parse(value) !== undefined) return value
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    reader.fail(node, path, `${path}: ${reader.quoted(asError(error).message)}`)
    return BAD
  }
  reader.fail(node, path, `${path} must be ${rangeOf(rule)}, got ${show(reader, node, form)}`)
  return BAD
}

export interface Fields {
  readonly required?: readonly string[]
  /** Keys that are read in another way. */
  readonly others?: Readonly<Record<string, (node: Tree, path: string) => void>>
  /** Keys that are not looked at. */
  readonly ignored?: (name: string) => boolean
}

/** A mapping with these keys; `null`, as of a key with nothing below it, is an empty one. Undefined: is none. */
export function readFields(
  reader: Reader,
  node: Tree,
  rules: Rules,
  path: string,
  { required = [], others = {}, ignored = () => false }: Fields = {},
): Record<string, unknown> | undefined {
  reader.look(node)
  const names = [...Object.keys(rules).filter((name) => rules[name]?.form), ...Object.keys(others)]
  if (!isMappingLike(node)) {
    const what = `a mapping with keys of ${names.join(', ')}`
    reader.fail(node, path, `${path || 'the file'} must be ${what}, got ${show(reader, node)}`)
    return undefined
  }
  const values: Record<string, unknown> = {}
  const entries = node.kind === 'mapping' ? node.entries : new Map()
  for (const [name, { key, value }] of entries as Mapping['entries']) {
    const at = join(path, name)
    if (ignored(name)) continue
    if (Object.hasOwn(others, name)) others[name]?.(value, at)
    else if (!names.includes(name)) refuse(reader, { name, key, value }, rules, path, names)
    else {
      const read = readValue(reader, value, rules[name] as Rule<unknown>, at)
      if (read !== BAD) values[name] = read
    }
  }
  for (const name of required) {
    if (!entries.has(name)) reader.fail(node, join(path, name), `${join(path, name)} is missing`)
  }
  return values
}

export function isMappingLike(node: Tree): boolean {
  return node.kind === 'mapping' || (node.kind === 'scalar' && node.value === null)
}

export function entry(node: Tree, name: string): Tree | undefined {
  return node.kind === 'mapping' ? node.entries.get(name)?.value : undefined
}

export function join(path: string, name: string): string {
  const short = shorten(name)
  return path ? `${path}.${short}` : short
}

function refuse(
  reader: Reader,
  { name, key, value }: { name: string; key: Span; value: Tree },
  rules: Rules,
  path: string,
  names: readonly string[],
): void {
  reader.look(key)
  // What it is called is a mistake; what it holds may be secret all the same.
  reader.hide(value)
  const at = join(path, name)
  if (Object.hasOwn(rules, name)) {
    reader.fail(key, at, `${at} is ${rules[name]?.range}: it can be given in code only`)
    return
  }
  const near = nearest(name, names)
  const question = near ? `; did you mean '${near}'?` : ''
  const where = path || 'the file'
  reader.fail(
    key,
    at,
    `${where} has no key '${shorten(name)}'${question}`,
    `allowed: ${names.join(', ')}`,
  )
}

function convert(reader: Reader, node: Tree, form: Form, path: string): unknown {
  switch (form.is) {
    case 'options': {
      if (!isMappingLike(node)) return MISFIT
      const before = reader.failures
      const { required = [] } = form
      const fields = readFields(reader, node, form.rules, path, { required })
      return reader.failures > before ? BAD : fields
    }
    case 'record':
      return node.kind === 'mapping' ? record(reader, node, form.of, path) : MISFIT
    case 'list':
      return node.kind === 'list' ? list(reader, node.items, form.of, path) : MISFIT
    case 'either':
      return either(reader, node, form.forms, path)
    case 'tree':
      return node.kind === 'mapping' ? plain(reader, node, path, 0) : MISFIT
    default:
      return node.kind === 'scalar' ? scalar(reader, node, form, path) : MISFIT
  }
}

function record(reader: Reader, node: Mapping, of: Rule<unknown>, path: string): unknown {
  const read = [...node.entries].map(
    ([name, { value }]) => [name, readText(reader, value, of, join(path, name))] as const,
  )
  return read.some(([, value]) => value === BAD) ? BAD : Object.fromEntries(read)
}

function list(reader: Reader, items: readonly Tree[], of: Rule<unknown>, path: string): unknown {
  const read = items.map((item, index) => readText(reader, item, of, `${path}[${index}]`))
  return read.includes(BAD) ? BAD : read
}

/** In lists and records of texts, `8080` and `true` are texts, just as they are written. */
function readText(reader: Reader, node: Tree, of: Rule<unknown>, path: string): unknown {
  const isText = of.form?.is === 'text'
  const literal = node.kind === 'scalar' && node.plain && node.value !== null
  return readValue(reader, isText && literal ? { ...node, value: node.written } : node, of, path)
}

/** The first of the forms that it fits. */
function either(reader: Reader, node: Tree, forms: readonly Form[], path: string): unknown {
  for (const form of forms) {
    const value = convert(reader, node, form, path)
    if (value !== MISFIT) return value
  }
  return MISFIT
}

function scalar(reader: Reader, node: Scalar, form: Form, path: string): unknown {
  if (form.is === 'text' && form.secret) reader.hide(node)
  const read = reader.value(node, path)
  if (!read) return BAD
  const { value, substituted } = read
  switch (form.is) {
    case 'number':
      if (typeof value === 'string') return numeric(value, form, substituted)
      return typeof value === 'number' ? value : MISFIT
    case 'flag':
      if (substituted && (value === 'true' || value === 'false')) return value === 'true'
      return typeof value === 'boolean' ? value : MISFIT
    case 'choice':
      return typeof value === 'string' && form.names.includes(value) ? value : MISFIT
    default:
      return typeof value === 'string' ? value : MISFIT
  }
}

/** A tree as plain data. */
export function plain(reader: Reader, node: Tree, path: string, depth: number): unknown {
  reader.look(node)
  if (depth > DEEPEST) {
    reader.fail(node, '', `options of providers are at most ${DEEPEST} levels deep`)
    return null
  }
  if (node.kind === 'scalar') return plainScalar(reader, node, path)
  if (node.kind === 'list') {
    return node.items.map((item, index) => plain(reader, item, `${path}[${index}]`, depth + 1))
  }
  return Object.fromEntries(
    [...node.entries].map(([name, { value }]) => [
      name,
      plain(reader, value, join(path, name), depth + 1),
    ]),
  )
}

/** What was substituted without quotes reads as it would if it had been written there. */
function plainScalar(reader: Reader, node: Scalar, path: string): unknown {
  const read = reader.value(node, path)
  if (!read?.substituted || !node.plain) return read?.value ?? null
  if (read.value === 'true' || read.value === 'false') return read.value === 'true'
  const text = String(read.value)
  return /^-?(0|[1-9]\d{0,14})(\.\d{1,15})?$/.test(text) ? Number(text) : text
}

/** A number in quotes is a text; one that was substituted is a number. */
function numeric(text: string, form: NumberForm, substituted: boolean): number | typeof MISFIT {
  if (substituted && /^-?\d{1,20}(\.\d{1,20})?$/.test(text)) return Number(text)
  if (form.unlimited && (text === 'unlimited' || text === 'Infinity')) {
    return Number.POSITIVE_INFINITY
  }
  if (form.unit === 'ms') return milliseconds(text) ?? MISFIT
  return (form.unit === 'bytes' ? bytes(text) : undefined) ?? MISFIT
}

/** The range of a rule, in the terms of a file. */
export function rangeOf({ range, form }: Rule<unknown>): string {
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

/** What stands there, for a message: never what was substituted, nor what is secret. */
export function show(reader: Reader, node: Tree, form?: Form): string {
  if (form && holdsSecret(form)) {
    reader.hide(node)
    return 'something else (it is not shown)'
  }
  if (node.kind !== 'scalar') return node.kind === 'list' ? 'a list' : 'a mapping'
  if (node.value === null) return 'nothing'
  if (typeof node.value !== 'string') return shorten(node.written)
  return JSON.stringify(shorten(node.value))
}

/** For messages: there may be many of them. */
function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text
}

function holdsSecret(form: Form): boolean {
  switch (form.is) {
    case 'text':
      return form.secret === true
    case 'list':
    case 'record':
      return form.of.form !== undefined && holdsSecret(form.of.form)
    case 'options':
      return Object.values(form.rules).some((rule) => rule.form && holdsSecret(rule.form))
    case 'either':
      return form.forms.some(holdsSecret)
    default:
      return false
  }
}
