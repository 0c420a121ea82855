/** Finds the route of a request in a table of methods and paths. Pure. */

export interface RoutePattern {
  readonly method: string
  /** `/jobs/{id}`: a segment in braces matches any one segment that is not empty. */
  readonly path: string
}

export interface RouterMatch<R extends RoutePattern> {
  readonly route: R
  /** Values of the segments in braces, percent-decoded. */
  readonly params: Readonly<Record<string, string>>
}

interface CompiledRoute<R> {
  readonly route: R
  readonly segments: readonly string[]
}

export class Router<R extends RoutePattern> {
  readonly #routes: readonly CompiledRoute<R>[]

  constructor(routes: readonly R[]) {
    this.#routes = routes.map((route) => ({ route, segments: route.path.split('/') }))
  }

  /** The routes of a path, one for each of its methods; undefined if the path cannot be percent-decoded. */
  match(path: string): RouterMatch<R>[] | undefined {
    let segments: string[]
    try {
      segments = path.split('/').map(decodeURIComponent)
    } catch {
      return undefined
    }
    return this.#routes.flatMap(({ route, segments: pattern }) => {
      const params = readParams(pattern, segments)
      return params ? [{ route, params }] : []
    })
  }
}

function readParams(
  pattern: readonly string[],
  segments: readonly string[],
): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] as string
    if (part.startsWith('{')) {
      if (segment === '') return undefined
      params[part.slice(1, -1)] = segment
    } else if (part !== segment) return undefined
  }
  return params
}

/** The value of an `Allow` header field: the methods of a path, and those that every path with them has. */
export function allowedMethods(methods: readonly string[]): string {
  return [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ')
}
