/** Services of a file: options of `session.startup`, a size, and what the gateway is to know. */
import { isAbsolute, resolve } from 'node:path'
import { asError } from '../core/errors.ts'
import { milliseconds, rule, text } from '../core/options.ts'
import { virtualUrl } from '../core/registry.ts'
import { SERVICE_RULES, type ServiceOptions } from '../session/service.ts'
import { disagreement } from './agree.ts'
import { nearest } from './nearest.ts'
import type { Providers } from './providers.ts'
import { entry, isMappingLike, join, readFields, show } from './read.ts'
import type { Reader } from './reader.ts'
import { readRoutes, refuseTakenRoutes, type ServiceGateway } from './routes.ts'
import { readSize, type SizeConfig } from './size.ts'
import type { Tree } from './tree.ts'

export interface ServiceConfig {
  /** Virtual URL in its normal form. */
  readonly url: string
  /** As `session.startup` takes them, but for the provider; `initSize` is there, `cwd` is absolute. */
  readonly options: ServiceOptions & { readonly url: string; readonly initSize: number }
  /** A name of `Config.providers`; the session's own if undefined. */
  readonly provider: string | undefined
  readonly size: SizeConfig
  readonly gateway: ServiceGateway
}

const { url: _, ...OPTIONS } = SERVICE_RULES

const NAME = text('a name of providers', (value) => value !== '')

const WEIGHT = rule(
  'a number above 0',
  undefined,
  (value) => (Number(value) > 0 ? value : undefined),
  {
    is: 'number',
    min: 0,
    above: true,
  },
)

/** What a file may say of a service on several providers. */
const SEVERAL_RULES = {
  order: rule<readonly string[]>(
    'a list of names of providers, first choice first',
    undefined,
    (value) => (Array.isArray(value) && value.length > 0 ? value : undefined),
    { is: 'list', of: NAME, least: 1 },
  ),
  weights: rule<Readonly<Record<string, number>>>(
    'a mapping from names of providers to numbers above 0',
    undefined,
    (value) => value as Readonly<Record<string, number>>,
    { is: 'record', of: WEIGHT },
  ),
  patience: milliseconds(0, 'no limit'),
} as const

interface SeveralNames {
  readonly order?: readonly string[]
  readonly weights?: Readonly<Record<string, number>>
  readonly patience?: number
}

type ProviderNames = string | readonly string[] | SeveralNames

/** Keys of a service that are options of `startup`; `provider` is a name here. */
export const SERVICE_FILE_RULES = {
  ...OPTIONS,
  provider: rule<ProviderNames>(
    'a name of providers, a list of names, first choice first, or { weights, patience }',
    undefined,
    (value) => (value === '' ? undefined : (value as ProviderNames)),
    {
      is: 'either',
      forms: [
        { is: 'text' },
        { is: 'list', of: NAME, least: 1 },
        { is: 'options', rules: SEVERAL_RULES },
      ],
    },
  ),
} as const

export function readServices(reader: Reader, node: Tree, providers: Providers): ServiceConfig[] {
  reader.look(node)
  if (!isMappingLike(node)) {
    const message = `services must be a mapping from virtual URL to service, got ${show(reader, node)}`
    reader.fail(node, 'services', message)
  }
  if (node.kind !== 'mapping') return []
  const seen = new Map<string, string>()
  const services: ServiceConfig[] = []
  for (const [name, { key, value }] of node.entries) {
    const path = join('services', name)
    let url = 'http://unknown'
    try {
      url = virtualUrl(name).href
      const twin = seen.get(url)
      if (twin) reader.fail(key, path, `${path} is the same service as services.${twin}`)
      seen.set(url, name)
    } catch (error) {
      reader.fail(key, path, `${path}: ${asError(error).message.replace(/^url: /, '')}`)
    }
    const service = new ServiceReader(reader, providers, path).read(value, url)
    if (service) services.push(service)
  }
  refuseTakenRoutes(reader, node, seen, services)
  return services
}

class ServiceReader {
  readonly #reader: Reader
  readonly #providers: Providers
  readonly #path: string

  constructor(reader: Reader, providers: Providers, path: string) {
    this.#reader = reader
    this.#providers = providers
    this.#path = path
  }

  read(node: Tree, url: string): ServiceConfig | undefined {
    const reader = this.#reader
    const before = reader.failures
    let sizeNode: Tree | undefined
    let gateway: ServiceGateway | undefined
    const fields = readFields(reader, node, SERVICE_FILE_RULES, this.#path, {
      others: {
        size: (value) => {
          sizeNode = value
        },
        gateway: (value, path) => {
          gateway = readRoutes(reader, value, path)
        },
      },
    })
    const { provider: names, ...options } = (fields ?? {}) as Omit<ServiceOptions, 'provider'> & {
      provider?: ProviderNames
    }
    const failures = reader.failures
    const provider = this.#oneName(node, names)
    const isNamed = reader.failures === failures
    const { concurrency = 1 } = options
    const size = sizeNode
      ? readSize(reader, sizeNode, join(this.#path, 'size'), { concurrency, url })
      : { fixed: options.initSize ?? 1 }
    if (isNamed) this.#checkProvider(node, provider, options.command !== undefined)
    const whole = this.#located({ ...options, url, initSize: first(size, options) }, provider)
    this.#checkTogether(node, whole, size, options.initSize)
    if (!size || reader.failures > before) return undefined
    return { url, options: whole, provider, size, gateway: gateway ?? readRoutes(reader, NONE, '') }
  }

  /** One name for what may be several; those that are unknown are reported by `#checkProvider`. */
  #oneName(node: Tree, given: ProviderNames | undefined): string | undefined {
    if (given === undefined || typeof given === 'string') return given
    const { order, weights, patience }: SeveralNames = Array.isArray(given)
      ? { order: given }
      : (given as SeveralNames)
    const path = join(this.#path, 'provider')
    const at = entry(node, 'provider') ?? node
    const names = order ?? Object.keys(weights ?? {})
    if (names.length === 0 || (order && weights)) {
      this.#reader.fail(
        at,
        path,
        `${path} must have either order or weights, with one name at least`,
      )
      return undefined
    }
    const twin = names.find((name, index) => names.indexOf(name) !== index)
    if (twin !== undefined) {
      this.#reader.fail(at, path, `${path} has '${twin}' twice`)
      return undefined
    }
    const unknown = names.find((name) => !this.#providers.find(name))
    if (unknown !== undefined) return unknown
    return this.#providers.several(names, {
      ...(weights && { weights: Object.values(weights) }),
      ...(patience && { patience }),
    })
  }

  #checkProvider(node: Tree, name: string | undefined, hasCommand: boolean): void {
    const at = entry(node, 'provider')
    if (name !== undefined && !this.#providers.find(name)) {
      const { names } = this.#providers
      const near = nearest(name, names)
      const question = near ? `; did you mean '${near}'?` : ''
      const path = join(this.#path, 'provider')
      const got = at?.kind === 'scalar' ? show(this.#reader, at) : `'${name}'`
      const message = `${path} must be a name of providers (${names.join(', ') || 'none'}), got ${got}${question}`
      this.#reader.fail(at ?? node, path, message)
      return
    }
    if (this.#providers.typeOf(name).needsCommand && !hasCommand && !entry(node, 'command')) {
      const path = join(this.#path, 'command')
      this.#reader.fail(node, path, `${path} is missing: it starts an instance, as [node, app.js]`)
    }
  }

  /** A command of this machine runs in the folder of the file, and is found from there. */
  #located(
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

  /** What the options say of each other. */
  #checkTogether(
    node: Tree,
    options: ServiceConfig['options'],
    size: SizeConfig | undefined,
    initSize: number | undefined,
  ): void {
    const wrong = disagreement(options, size, initSize)
    if (wrong === undefined) return
    const name = wrong.split(/[^\w]+/).find((word) => entry(node, word)) ?? ''
    const path = name ? join(this.#path, name) : this.#path
    this.#reader.fail(entry(node, name) ?? node, path, `${this.#path}: ${wrong}`)
  }
}

/** The size at first, which a balancer's first reading replaces. */
function first(
  size: SizeConfig | undefined,
  { initSize, minSize = 0, maxSize }: Partial<ServiceOptions>,
): number {
  if (size && 'fixed' in size) return size.fixed
  const most = Math.min(size?.max ?? Number.POSITIVE_INFINITY, maxSize ?? Number.POSITIVE_INFINITY)
  return initSize ?? Math.min(most, Math.max(size?.min ?? 0, minSize))
}

const NONE: Tree = { kind: 'mapping', entries: new Map(), start: 0, end: 0 }
