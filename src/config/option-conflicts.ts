/** Finds options of a service that contradict each other. */
import { asError, ManyhostError } from '../core/errors.ts'
import type { Provider } from '../core/provider.ts'
import { parseService, type ServiceOptions } from '../session/service.ts'
import type { SizeConfig } from './size.ts'

/** The contradiction, in a sentence that names one of the options; undefined if there is none. */
export function findOptionConflict(
  options: ServiceOptions,
  size: SizeConfig | undefined,
  initSize: number | undefined,
): string | undefined {
  const { minSize = 0, maxSize = Number.POSITIVE_INFINITY } = options
  if (size && 'fixed' in size) {
    if (initSize !== undefined && initSize !== size.fixed) {
      return `initSize ${initSize} and size ${size.fixed} exclude each other`
    }
    const outside = size.fixed > maxSize ? `above maxSize ${maxSize}` : `below minSize ${minSize}`
    if (minSize <= maxSize && (size.fixed > maxSize || size.fixed < minSize)) {
      return `size ${size.fixed} is ${outside}`
    }
  } else if (size && minSize <= maxSize && (size.min > maxSize || size.max < minSize)) {
    return `size ${size.min}..${size.max} is outside of minSize ${minSize} and maxSize ${maxSize}`
  }
  try {
    parseService(options, undefined, {
      provider: permissiveProvider(options),
      tickInterval: 1_000,
      random: () => 0,
    })
    return undefined
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    return asError(error).message.replace(/^startup: /, '')
  }
}

/** A provider with every capability. Whether the real one can run the service is checked when the service starts. */
function permissiveProvider({ command }: ServiceOptions): Provider {
  return {
    name: 'any',
    capabilities: new Set([
      'image',
      'unix-socket',
      'resources',
      ...(command ? ['command' as const] : []),
    ]),
    start: () => Promise.reject(new Error('never started')),
  }
}
