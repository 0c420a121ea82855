/** Reads the providers of a file. The caller gives the rules of their options, because this folder knows no provider. */
import { asError, ManyhostError } from '../core/errors.ts'
import { dictFromEntries } from '../core/null-prototype.ts'
import type { Rules } from '../core/options.ts'
import { findNearest } from './nearest.ts'
import { describeNode, isMappingLike, joinPath, readFields, toPlainData } from './read-fields.ts'
import type { ConfigReader } from './reader.ts'
import type { YamlMapping, YamlTree } from './yaml-tree.ts'

/**
 * How the options of a provider type are checked: by rules, which report each mistake at its place, or by a function that
 * throws.
 */
export interface ProviderType {
  readonly rules?: Rules
  readonly required?: readonly string[]
  /** Throws a ManyhostError for options that it refuses. What it returns is not used. */
  readonly parse?: (options: Readonly<Record<string, unknown>>) => unknown
  /** Whether its instances run on this machine. Commands then run in the folder of the file. @default true */
  readonly local?: boolean
  /** Whether a service needs a command. @default false */
  readonly needsCommand?: boolean
}

/** By the `type` of a provider in the file: `process`, `static`, ... */
export type ProviderTypes = Readonly<Record<string, ProviderType>>

export interface ProviderConfig {
  readonly name: string
  readonly type: string
  /** As the provider's factory takes them. */
  readonly options: Readonly<Record<string, unknown>>
}

/** The provider type of services that name no provider. */
export const DEFAULT_TYPE = 'process'

/** The type of a combination of providers. A file cannot name it. */
export const SEVERAL_TYPE = 'several'

/** Limit of names in a message. */
const MAX_NAMES = 30

export class ConfigProviders {
  readonly #types: ProviderTypes | undefined
  readonly #byName = new Map<string, ProviderConfig>()

  constructor(types: ProviderTypes | undefined) {
    this.#types = types
  }

  get all(): Readonly<Record<string, ProviderConfig>> {
    return dictFromEntries(this.#byName)
  }

  read(reader: ConfigReader, node: YamlTree): void {
    if (!isMappingLike(node)) {
      const message = `providers must be a mapping from name to provider, got ${describeNode(reader, node)}`
      reader.reportProblem(node, 'providers', message)
      return
    }
    if (node.kind !== 'mapping') return
    for (const [name, { value }] of node.entries) this.#readOne(reader, name, value)
  }

  #readOne(reader: ConfigReader, name: string, node: YamlTree): void {
    const path = joinPath('providers', name)
    reader.countValue(node)
    // The name is known even if the rest is wrong, so that services that name it report no mistake of their own.
    this.#byName.set(name, { name, type: '', options: {} })
    if (node.kind !== 'mapping') {
      reader.reportProblem(
        node,
        path,
        `${path} must be { type, ...options }, got ${describeNode(reader, node)}`,
      )
      return
    }
    const type = this.#readType(reader, node, name, path)
    if (type === undefined) return
    const options = this.#readOptions(reader, node, this.#types?.[type] ?? {}, path)
    this.#byName.set(name, { name, type, options })
  }

  #readType(
    reader: ConfigReader,
    node: YamlMapping,
    name: string,
    path: string,
  ): string | undefined {
    const given = node.entries.get('type')?.value
    const types = this.#types && Object.keys(this.#types)
    const allowed = types ? `one of ${types.join(', ')}` : 'a text'
    if (given === undefined) {
      // `providers: { process: { ... } }`: the name is the type.
      if (types?.includes(name)) return name
      reader.reportProblem(node, joinPath(path, 'type'), `${path}.type is missing: ${allowed}`)
      return undefined
    }
    const type =
      given.kind === 'scalar' ? reader.resolveScalar(given, joinPath(path, 'type'))?.value : null
    if (typeof type === 'string' && (!types || types.includes(type))) return type
    const near = typeof type === 'string' && types && findNearest(type, types)
    const question = near ? `; did you mean '${near}'?` : ''
    const message = `${path}.type must be ${allowed}, got ${describeNode(reader, given)}${question}`
    reader.reportProblem(given, joinPath(path, 'type'), message)
    return undefined
  }

  #readOptions(
    reader: ConfigReader,
    node: YamlMapping,
    { rules, required = [], parse }: ProviderType,
    path: string,
  ): Record<string, unknown> {
    const before = reader.problemCount
    let options: Record<string, unknown>
    if (rules)
      options = readFields(reader, node, rules, path, { required, readers: { type() {} } }) ?? {}
    else {
      options = Object.fromEntries(
        [...node.entries]
          .filter(([name]) => name !== 'type')
          .map(([name, { value }]) => [name, toPlainData(reader, value, joinPath(path, name), 0)]),
      )
    }
    if (reader.problemCount > before || !parse) return options
    try {
      parse(options)
    } catch (error) {
      if (!(error instanceof ManyhostError)) throw error
      const message = reader.redact(asError(error).message)
      const words = message.split(/\W+/)
      const named = [...node.entries].find(([name]) => words.includes(name))
      // Any option may be secret; only the provider knows which.
      for (const { value } of node.entries.values()) reader.markSecret(value)
      reader.reportProblem(named?.[1].value ?? node, path, `${path}: ${message}`)
    }
    return options
  }

  /** The provider of that name; undefined if there is none. */
  find(name: string | undefined): ProviderConfig | undefined {
    if (name === undefined) return undefined
    const known = this.#byName.get(name)
    if (known || !this.#types || !Object.hasOwn(this.#types, name)) return known
    // The name of a type stands for a provider with the default options.
    const implied = { name, type: name, options: {} }
    this.#byName.set(name, implied)
    return implied
  }

  /** Combines providers, which must be known. Returns the name of the combination. */
  combine(names: readonly string[], options: Readonly<Record<string, unknown>>): string {
    const of = names.map((name) => this.find(name) as ProviderConfig)
    const name = JSON.stringify([names, options])
    // The combination contains the providers themselves, so that a change of one of them changes it as well.
    this.#byName.set(name, { name, type: SEVERAL_TYPE, options: { ...options, of } })
    return name
  }

  typeOf(name: string | undefined): ProviderType {
    const several = name === undefined ? undefined : this.#byName.get(name)
    if (several?.type === SEVERAL_TYPE) {
      const types = (several.options.of as ProviderConfig[]).map((one) => this.typeOf(one.name))
      const local = types.every((one) => one.local !== false)
      return { local, needsCommand: types.some(({ needsCommand }) => needsCommand) }
    }
    const type = name === undefined ? DEFAULT_TYPE : (this.find(name)?.type ?? '')
    return this.#types && Object.hasOwn(this.#types, type)
      ? (this.#types[type] as ProviderType)
      : {}
  }

  get names(): readonly string[] {
    const known = [...this.#byName.values()].filter(({ type }) => type !== SEVERAL_TYPE)
    const all = new Set([...known.map(({ name }) => name), ...Object.keys(this.#types ?? {})])
    return [...all].slice(0, MAX_NAMES)
  }
}
