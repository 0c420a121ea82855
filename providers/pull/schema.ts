/** JSON Schemas, of draft 4 unless `$schema` says a later one. They come from outside, as what they check does. */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import type { Ajv, AnySchema, Options, ValidateFunction } from 'ajv'
import { guarded, TooSlow } from './guard.ts'
import { isMapping, type Parsed, Refusal, refuse } from './json.ts'
import { explain } from './schema-words.ts'

type AjvClass = new (options: Options) => Ajv

/** They are CommonJS, and only who is given a schema pays for loading them. */
const require = createRequire(import.meta.url)
const LIBRARIES = {
  'ajv-draft-04': () => require('ajv-draft-04'),
  ajv: () => require('ajv'),
  'ajv/dist/2019': () => require('ajv/dist/2019'),
  'ajv/dist/2020': () => require('ajv/dist/2020'),
} as const satisfies Record<string, () => unknown>
type Library = keyof typeof LIBRARIES

const DRAFTS: Readonly<Record<string, Library>> = {
  '': 'ajv-draft-04',
  'http://json-schema.org/schema': 'ajv-draft-04',
  'http://json-schema.org/draft-04/schema': 'ajv-draft-04',
  'http://json-schema.org/draft-06/schema': 'ajv',
  'http://json-schema.org/draft-07/schema': 'ajv',
  'https://json-schema.org/draft/2019-09/schema': 'ajv/dist/2019',
  'https://json-schema.org/draft/2020-12/schema': 'ajv/dist/2020',
}

const OPTIONS: Options = {
  strict: false,
  logger: false,
  verbose: true,
  // One error is enough: to look for all of them is what a hostile value would want.
  allErrors: false,
  ownProperties: true,
  unicodeRegExp: false,
  addUsedSchema: false,
}

/** Bytes of a schema. */
const LARGEST = 65_536
/** Milliseconds that it may take to be compiled. */
const COMPILING = 1_000
/** Schemas that are kept compiled. */
const KEPT = 256
/** Values of the schema times values of the input that are checked without a guard. */
const CHEAP = 200_000
/** Parts of a schema up to which it counts as small. */
const SMALL = 500
/** What can cost more than the product of both sizes says. */
const COSTLY =
  /"(?:pattern|patternProperties|uniqueItems|format|contains|unevaluated\w+|\$(?:dynamic|recursive)?[rR]ef)":/

/** Whether compiling the schema, and checking by it, costs no more than its size says, and its size is small. */
export function isPlain(text: string): boolean {
  return !COSTLY.test(text) && weightOf(text) <= SMALL
}

function weightOf(text: string): number {
  return text.split(/[,{[]/).length
}

export interface Schema {
  readonly value: Readonly<Record<string, unknown>>
  /** Whether a check of that input takes microseconds. */
  isCheap(input: Parsed): boolean
  /** @throws Refusal 400 that says what is wrong and where */
  check(input: Parsed): void
}

const metas = new Map<string, Ajv>()
const compiled = new Map<string, Schema>()

/**
 * What checks by that schema.
 * @throws Refusal 400 for what is no schema
 */
export function schemaOf(value: unknown, name = 'schema'): Schema {
  const wrong = (why: string): Refusal =>
    refuse(400, 'Invalid JSON Schema', `${name} is not a valid JSON Schema: ${why}`)
  if (!isMapping(value)) throw wrong('it is not an object')
  const text = JSON.stringify(value)
  if (text.length > LARGEST) throw wrong(`it has more than ${LARGEST} bytes`)
  const key = createHash('sha256').update(text).digest('base64')
  const known = compiled.get(key)
  if (known) return known
  try {
    const schema = compile(value, text)
    if (compiled.size >= KEPT) compiled.delete(compiled.keys().next().value as string)
    compiled.set(key, schema)
    return schema
  } catch (error) {
    throw wrong((error as Error).message.slice(0, 500))
  }
}

function compile(value: Readonly<Record<string, unknown>>, text: string): Schema {
  // Such a schema answers with a promise, which is true whatever it will say.
  if (text.includes('"$async":')) throw new Error('$async is not supported')
  const { $schema = '' } = value
  const draft = typeof $schema === 'string' ? $schema.replace(/#$/, '') : undefined
  const library = draft === undefined || !Object.hasOwn(DRAFTS, draft) ? undefined : DRAFTS[draft]
  if (!library) throw new Error(`$schema is ${JSON.stringify($schema)}, which is no known draft`)
  const Draft = classOf(library)
  const judge = metas.get(library) ?? new Draft(OPTIONS)
  // The draft itself is compiled once, on nobody's account.
  if (!metas.has(library)) judge.validateSchema({})
  metas.set(library, judge)
  // It is judged by the library's own draft: of the drafts that share one, only the newest is known to it.
  const { $schema: _, ...bare } = value
  const isValid = guarded(() => judge.validateSchema(bare as AnySchema), COMPILING)
  if (isValid !== true) throw new Error(judge.errorsText(judge.errors))
  // An instance of its own: what one schema defines by `$id` is none of the next one's, and goes with it.
  const ajv = new Draft({ ...OPTIONS, meta: false, validateSchema: false })
  addFormats(ajv)
  const validate = guarded(() => ajv.compile(bare as AnySchema), COMPILING)
  const weight = weightOf(text)
  const isCostly = COSTLY.test(text)
  const isCheap = ({ count }: Parsed): boolean => !isCostly && weight * count <= CHEAP
  return { value, isCheap, check: (input) => check(validate, input, isCheap(input)) }
}

function classOf(library: Library): AjvClass {
  const loaded = LIBRARIES[library]() as { default: AjvClass }
  return loaded.default
}

function addFormats(ajv: Ajv): void {
  const { default: add } = require('ajv-formats') as { default: (ajv: Ajv) => Ajv }
  add(ajv)
}

function check(validate: ValidateFunction, input: Parsed, isCheap: boolean): void {
  let isValid: unknown
  try {
    const run = (): unknown => validate(input.value)
    isValid = isCheap ? run() : guarded(run)
  } catch (error) {
    const detail =
      error instanceof TooSlow ? `the check was ended: ${error.message}` : 'the check failed'
    throw refuse(400, 'JSONSchema Validation Error', detail)
  }
  if (isValid === true) return
  const [error] = validate.errors ?? []
  throw new Refusal([
    {
      title: 'JSONSchema Validation Error',
      detail: `Validation of schema [] threw error ${error ? explain(error) : 'it does not match'}`,
      status_code: 400,
      source: { pointer: error?.instancePath ?? '' },
    },
  ])
}
