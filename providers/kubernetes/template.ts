/** What a user wants of a pod, laid over what this provider makes of it. */
import { parse } from 'yaml'
import { dict } from '../../src/core/dict.ts'

/** Parts of a Pod, as its manifest has them. */
export interface Template {
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly spec?: Readonly<Record<string, unknown>>
}

type Mapping = Readonly<Record<string, unknown>>

/** Longest that is read, in characters. */
const LONGEST = 1_048_576

const KNOWN = new Set(['apiVersion', 'kind', 'metadata', 'spec', 'template'])

/** Undefined for what is no template. A Deployment's `template` is one as well. */
export function readTemplate(value: unknown): Template | undefined {
  const given = typeof value === 'string' ? parsed(value) : value
  if (!isMapping(given)) return undefined
  if (Object.keys(given).some((name) => !KNOWN.has(name))) return undefined
  if (given.kind !== undefined && given.kind !== 'Pod' && given.kind !== 'PodTemplate')
    return undefined
  const { metadata, spec } = given.kind === 'PodTemplate' ? mapping(given.template) : given
  if (metadata === undefined && spec === undefined) return undefined
  if (![metadata, spec].every((part) => part === undefined || isMapping(part))) return undefined
  return {
    ...(metadata !== undefined && { metadata: metadata as Mapping }),
    ...(spec !== undefined && { spec: spec as Mapping }),
  }
}

/**
 * `over` laid over `base`: mappings are merged, and so are lists of what has names, by name, as a strategic merge patch
 * does; null removes; everything else takes the place of what was there.
 */
export function overlay(base: unknown, over: unknown): unknown {
  if (over === undefined) return base
  if (isMapping(base) && isMapping(over)) {
    const merged = dict<unknown>(base)
    for (const [name, value] of Object.entries(over)) {
      if (value === null) delete merged[name]
      else merged[name] = overlay(merged[name], value)
    }
    return merged
  }
  if (isNamed(base) && isNamed(over)) {
    const merged = base.map((one) =>
      overlay(
        one,
        over.find(({ name }) => name === one.name),
      ),
    )
    const known = new Set(base.map(({ name }) => name))
    return [...merged, ...over.filter(({ name }) => !known.has(name))]
  }
  return over
}

function parsed(text: string): unknown {
  if (text.length > LONGEST) return undefined
  try {
    return parse(text, { maxAliasCount: 100 })
  } catch {
    return undefined
  }
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function mapping(value: unknown): Mapping {
  return isMapping(value) ? value : {}
}

function isNamed(value: unknown): value is readonly { name: string }[] {
  return (
    Array.isArray(value) && value.every((one) => isMapping(one) && typeof one.name === 'string')
  )
}
