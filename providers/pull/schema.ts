/** Compiles JSON Schemas: of draft 4, or of the draft that `$schema` names. Schemas and values both come from outside. */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import type { Ajv, AnySchema, Options, ValidateFunction } from 'ajv'
import { createRefusal, isMapping, type ParsedJson, Refusal } from './json.ts'
import { explainSchemaError } from './schema-messages.ts'
import { runWithTimeLimit, TimeLimitError } from './time-limit.ts'

type AjvClass = new (options: Options) => Ajv

/** The libraries are CommonJS. Each one is loaded when there is a schema of its draft, because loading takes time. */
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
  // Only the first error is reported: finding all of them could be made costly by a hostile value.
  allErrors: false,
  ownProperties: true,
  unicodeRegExp: false,
  addUsedSchema: false,
}

/** Characters of the JSON text of a schema. */
const MAX_SCHEMA_LENGTH = 65_536
/** Milliseconds for compiling a schema. */
const MAX_COMPILE_TIME = 1_000
/** Compiled schemas that are kept. */
const MAX_COMPILED = 256
/** Parts of the schema times values of the input, up to which a check runs without a time limit. */
const MAX_CHEAP_COST = 200_000
/** Parts of a schema up to which the schema counts as small. */
const MAX_SIMPLE_WEIGHT = 500
/** Keywords whose check can cost more than the product of both sizes. */
const COSTLY_KEYWORDS =
  /"(?:pattern|patternProperties|uniqueItems|format|contains|unevaluated\w+|\$(?:dynamic|recursive)?[rR]ef)":/

/** Whether the schema is small, and compiling it and checking by it cost no more than its size says. */
export function isSimpleSchema(text: string): boolean {
  return !COSTLY_KEYWORDS.test(text) && countParts(text) <= MAX_SIMPLE_WEIGHT
}

function countParts(text: string): number {
  return text.split(/[,{[]/).length
}

export interface JsonSchema {
  readonly value: Readonly<Record<string, unknown>>
  /** Whether a check of this input takes microseconds. */
  isCheap(input: ParsedJson): boolean
  /** @throws Refusal 400 that says what is wrong and where */
  check(input: ParsedJson): void
}

const draftValidators = new Map<string, Ajv>()
const compiledSchemas = new Map<string, JsonSchema>()

/**
 * Compiles a schema, or returns it from the cache.
 * @param name of the schema, for errors
 * @throws Refusal 400 when `value` is not a valid JSON Schema
 */
export function compileSchema(value: unknown, name = 'schema'): JsonSchema {
  const createInvalid = (why: string): Refusal =>
    createRefusal(400, 'Invalid JSON Schema', `${name} is not a valid JSON Schema: ${why}`)
  if (!isMapping(value)) throw createInvalid('it is not an object')
  const text = JSON.stringify(value)
  if (text.length > MAX_SCHEMA_LENGTH)
    throw createInvalid(`it has more than ${MAX_SCHEMA_LENGTH} bytes`)
  const key = createHash('sha256').update(text).digest('base64')
  const known = compiledSchemas.get(key)
  if (known) return known
  try {
    const schema = compileWithDraft(value, text)
    if (compiledSchemas.size >= MAX_COMPILED)
      compiledSchemas.delete(compiledSchemas.keys().next().value as string)
    compiledSchemas.set(key, schema)
    return schema
  } catch (error) {
    throw createInvalid((error as Error).message.slice(0, 500))
  }
}

function compileWithDraft(value: Readonly<Record<string, unknown>>, text: string): JsonSchema {
  // The check of such a schema returns a promise, which would count as true whatever its result is.
  if (text.includes('"$async":')) throw new Error('$async is not supported')
  const { $schema = '' } = value
  const draft = typeof $schema === 'string' ? $schema.replace(/#$/, '') : undefined
  const library = draft === undefined || !Object.hasOwn(DRAFTS, draft) ? undefined : DRAFTS[draft]
  if (!library) throw new Error(`$schema is ${JSON.stringify($schema)}, which is no known draft`)
  const Draft = loadAjvClass(library)
  const validator = draftValidators.get(library) ?? new Draft(OPTIONS)
  // Compiles the schema of the draft itself, once, without the time limit of the first user's schema.
  if (!draftValidators.has(library)) validator.validateSchema({})
  draftValidators.set(library, validator)
  // Without its `$schema`, it is checked by the draft of the library. Where drafts share a library, the library knows only
  // the newest one by name.
  const { $schema: _, ...bare } = value
  const isValid = runWithTimeLimit(
    () => validator.validateSchema(bare as AnySchema),
    MAX_COMPILE_TIME,
  )
  if (isValid !== true) throw new Error(validator.errorsText(validator.errors))
  // Each schema has an Ajv of its own, so that another schema cannot use what this one defines by `$id`, and so that all of
  // it is freed together.
  const ajv = new Draft({ ...OPTIONS, meta: false, validateSchema: false })
  addFormats(ajv)
  const validate = runWithTimeLimit(() => ajv.compile(bare as AnySchema), MAX_COMPILE_TIME)
  const weight = countParts(text)
  const isCostly = COSTLY_KEYWORDS.test(text)
  const isCheap = ({ count }: ParsedJson): boolean => !isCostly && weight * count <= MAX_CHEAP_COST
  return { value, isCheap, check: (input) => checkInput(validate, input, isCheap(input)) }
}

function loadAjvClass(library: Library): AjvClass {
  const loaded = LIBRARIES[library]() as { default: AjvClass }
  return loaded.default
}

function addFormats(ajv: Ajv): void {
  const { default: add } = require('ajv-formats') as { default: (ajv: Ajv) => Ajv }
  add(ajv)
}

function checkInput(validate: ValidateFunction, input: ParsedJson, isCheap: boolean): void {
  let isValid: unknown
  try {
    const run = (): unknown => validate(input.value)
    isValid = isCheap ? run() : runWithTimeLimit(run)
  } catch (error) {
    const detail =
      error instanceof TimeLimitError ? `the check was ended: ${error.message}` : 'the check failed'
    throw createRefusal(400, 'JSONSchema Validation Error', detail)
  }
  if (isValid === true) return
  const [error] = validate.errors ?? []
  throw new Refusal([
    {
      title: 'JSONSchema Validation Error',
      detail: `Validation of schema [] threw error ${error ? explainSchemaError(error) : 'it does not match'}`,
      status_code: 400,
      source: { pointer: error?.instancePath ?? '' },
    },
  ])
}
