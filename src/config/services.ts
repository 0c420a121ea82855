/** Reads the services of a file: the options of `session.startup`, the size, and the options at the gateway. */
import { isAbsolute, resolve } from 'node:path'
import { asError } from '../core/errors.ts'
import { milliseconds, rule, text } from '../core/options.ts'
import { parseVirtualUrl } from '../core/registry.ts'
import type { RouteSettings } from '../gateway/route-options.ts'
import { SERVICE_RULES, type ServiceOptions } from '../session/service.ts'
import { findNearest } from './nearest.ts'
import { findOptionConflict } from './option-conflicts.ts'
import type { ConfigProviders } from './providers.ts'
import { describeNode, getEntry, isMappingLike, joinPath, readFields } from './read-fields.ts'
import type { ConfigReader } from './reader.ts'
import { readServiceGateway, reportDuplicateRoutes } from './service-gateway.ts'
import { readSize, type SizeConfig } from './size.ts'
import type { YamlTree } from './yaml-tree.ts'

export interface ServiceConfig {
  /** Virtual URL in its normal form. */
  readonly url: string
  /** Options of `session.startup` without the provider. `initSize` is set, and `cwd` is absolute. */
  readonly options: ServiceOptions & { readonly url: string; readonly initSize: number }
  /** A name of `Config.providers`; undefined: the provider of the session. */
  readonly provider: string | undefined
  readonly size: SizeConfig
  readonly gateway: RouteSettings
}

const { url: _, ...OPTIONS } = SERVICE_RULES

const PROVIDER_NAME_RULE = text('a name of providers', (value) => value !== '')

const WEIGHT_RULE = rule(
  'a number above 0',
  undefined,
  (value) => (Number(value) > 0 ? value : undefined),
  {
    is: 'number',
    min: 0,
    exclusiveMin: true,
  },
)

/** The keys of a choice among several providers. */
const PROVIDER_CHOICE_RULES = {
  order: rule<readonly string[]>(
    'a list of names of providers, first choice first',
    undefined,
    (value) => (Array.isArray(value) && value.length > 0 ? value : undefined),
    { is: 'list', of: PROVIDER_NAME_RULE, minItems: 1 },
  ),
  weights: rule<Readonly<Record<string, number>>>(
    'a mapping from names of providers to numbers above 0',
    undefined,
    (value) => value as Readonly<Record<string, number>>,
    { is: 'record', of: WEIGHT_RULE },
  ),
  spilloverAfter: milliseconds(0, 'never'),
} as const

interface ProviderChoice {
  readonly order?: readonly string[]
  readonly weights?: Readonly<Record<string, number>>
  readonly spilloverAfter?: number
}

type ProviderSelection = string | readonly string[] | ProviderChoice

/** Keys of a service that are options of `startup`. `provider` is a name here, not an object. */
export const SERVICE_FILE_RULES = {
  ...OPTIONS,
  provider: rule<ProviderSelection>(
    'a name of providers, a list of names, first choice first, or { weights, spilloverAfter }',
    undefined,
    (value) => (value === '' ? undefined : (value as ProviderSelection)),
    {
      is: 'either',
      forms: [
        { is: 'text' },
        { is: 'list', of: PROVIDER_NAME_RULE, minItems: 1 },
        { is: 'options', rules: PROVIDER_CHOICE_RULES },
      ],
    },
  ),
} as const

export function readServices(
  reader: ConfigReader,
  node: YamlTree,
  providers: ConfigProviders,
): ServiceConfig[] {
  reader.countValue(node)
  if (!isMappingLike(node)) {
    const message = `services must be a mapping from virtual URL to service, got ${describeNode(reader, node)}`
    reader.reportProblem(node, 'services', message)
  }
  if (node.kind !== 'mapping') return []
  const seen = new Map<string, string>()
  const services: ServiceConfig[] = []
  for (const [name, { key, value }] of node.entries) {
    const path = joinPath('services', name)
    let url = 'http://unknown'
    try {
      url = parseVirtualUrl(name).href
      const twin = seen.get(url)
      if (twin) reader.reportProblem(key, path, `${path} is the same service as services.${twin}`)
      seen.set(url, name)
    } catch (error) {
      reader.reportProblem(key, path, `${path}: ${asError(error).message.replace(/^url: /, '')}`)
    }
    const service = new ServiceReader(reader, providers, path).read(value, url)
    if (service) services.push(service)
  }
  reportDuplicateRoutes(reader, node, seen, services)
  return services
}

class ServiceReader {
  readonly #reader: ConfigReader
  readonly #providers: ConfigProviders
  readonly #path: string

  constructor(reader: ConfigReader, providers: ConfigProviders, path: string) {
    this.#reader = reader
    this.#providers = providers
    this.#path = path
  }

  read(node: YamlTree, url: string): ServiceConfig | undefined {
    const reader = this.#reader
    const before = reader.problemCount
    let sizeNode: YamlTree | undefined
    let gateway: RouteSettings | undefined
    const fields = readFields(reader, node, SERVICE_FILE_RULES, this.#path, {
      readers: {
        size: (value) => {
          sizeNode = value
        },
        gateway: (value, path) => {
          gateway = readServiceGateway(reader, value, path)
        },
      },
    })
    const { provider: names, ...options } = (fields ?? {}) as Omit<ServiceOptions, 'provider'> & {
      provider?: ProviderSelection
    }
    const failures = reader.problemCount
    const provider = this.#resolveProvider(node, names)
    const isNamed = reader.problemCount === failures
    const { concurrency = 1 } = options
    const size = sizeNode
      ? readSize(reader, sizeNode, joinPath(this.#path, 'size'), { concurrency, url })
      : { fixed: options.initSize ?? 1 }
    if (isNamed) this.#checkProvider(node, provider, options.command !== undefined)
    const whole = this.#resolveCommand(
      { ...options, url, initSize: initialSize(size, options) },
      provider,
    )
    this.#checkConflicts(node, whole, size, options.initSize)
    if (!size || reader.problemCount > before) return undefined
    return {
      url,
      options: whole,
      provider,
      size,
      gateway: gateway ?? readServiceGateway(reader, EMPTY_MAPPING, ''),
    }
  }

  /** The name of the provider, or of a combination. `#checkProvider` reports an unknown name. */
  #resolveProvider(node: YamlTree, given: ProviderSelection | undefined): string | undefined {
    if (given === undefined || typeof given === 'string') return given
    const { order, weights, spilloverAfter }: ProviderChoice = Array.isArray(given)
      ? { order: given }
      : (given as ProviderChoice)
    const path = joinPath(this.#path, 'provider')
    const at = getEntry(node, 'provider') ?? node
    const names = order ?? Object.keys(weights ?? {})
    if (names.length === 0 || (order && weights)) {
      this.#reader.reportProblem(
        at,
        path,
        `${path} must have either order or weights, with at least one name`,
      )
      return undefined
    }
    const twin = names.find((name, index) => names.indexOf(name) !== index)
    if (twin !== undefined) {
      this.#reader.reportProblem(at, path, `${path} has '${twin}' twice`)
      return undefined
    }
    const unknown = names.find((name) => !this.#providers.find(name))
    if (unknown !== undefined) return unknown
    return this.#providers.combine(names, {
      ...(weights && { weights: Object.values(weights) }),
      ...(spilloverAfter && { spilloverAfter }),
    })
  }

  #checkProvider(node: YamlTree, name: string | undefined, hasCommand: boolean): void {
    const at = getEntry(node, 'provider')
    if (name !== undefined && !this.#providers.find(name)) {
      const { names } = this.#providers
      const near = findNearest(name, names)
      const question = near ? `; did you mean '${near}'?` : ''
      const path = joinPath(this.#path, 'provider')
      const got = at?.kind === 'scalar' ? describeNode(this.#reader, at) : `'${name}'`
      const message = `${path} must be a name of providers (${names.join(', ') || 'none'}), got ${got}${question}`
      this.#reader.reportProblem(at ?? node, path, message)
      return
    }
    if (this.#providers.typeOf(name).needsCommand && !hasCommand && !getEntry(node, 'command')) {
      const path = joinPath(this.#path, 'command')
      this.#reader.reportProblem(
        node,
        path,
        `${path} is missing: it starts an instance, as [node, app.js]`,
      )
    }
  }

  /** A command on this machine runs in the folder of the file, and a relative program is searched from there. */
  #resolveCommand(
    options: ServiceConfig['options'],
    provider: string | undefined,
  ): ServiceConfig['options'] {
    const { command, cwd, image } = options
    if (!command || image !== undefined || this.#providers.typeOf(provider).local === false) {
      return options
    }
    const [program = '', ...rest] = command
    const isPath = program.includes('/') && !isAbsolute(program)
    const { folder } = this.#reader
    return {
      ...options,
      command: [isPath ? resolve(folder, program) : program, ...rest],
      cwd: resolve(folder, cwd ?? '.'),
    }
  }

  /** Reports options that contradict each other. */
  #checkConflicts(
    node: YamlTree,
    options: ServiceConfig['options'],
    size: SizeConfig | undefined,
    initSize: number | undefined,
  ): void {
    const wrong = findOptionConflict(options, size, initSize)
    if (wrong === undefined) return
    const name = wrong.split(/[^\w]+/).find((word) => getEntry(node, word)) ?? ''
    const path = name ? joinPath(this.#path, name) : this.#path
    this.#reader.reportProblem(getEntry(node, name) ?? node, path, `${this.#path}: ${wrong}`)
  }
}

/** The size until the load balancer decides for the first time. */
function initialSize(
  size: SizeConfig | undefined,
  { initSize, minSize = 0, maxSize }: Partial<ServiceOptions>,
): number {
  if (size && 'fixed' in size) return size.fixed
  const max = Math.min(size?.max ?? Number.POSITIVE_INFINITY, maxSize ?? Number.POSITIVE_INFINITY)
  return initSize ?? Math.min(max, Math.max(size?.min ?? 0, minSize))
}

const EMPTY_MAPPING: YamlTree = { kind: 'mapping', entries: new Map(), start: 0, end: 0 }
