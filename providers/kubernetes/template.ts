/** Merges the user's template into the manifest of a pod. */
import { parse } from 'yaml'
import { createDict } from '../../src/core/null-prototype.ts'

/** Parts of a Pod, as its manifest has them. */
export interface KubernetesPodTemplate {
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly spec?: Readonly<Record<string, unknown>>
}

type TemplateMapping = Readonly<Record<string, unknown>>

/** Longest template, in characters. */
const MAX_TEMPLATE_LENGTH = 1_048_576

const TEMPLATE_KEYS = new Set(['apiVersion', 'kind', 'metadata', 'spec', 'template'])

/** Undefined for a value that is no template. The `template` of a Deployment is a template as well. */
export function readTemplate(value: unknown): KubernetesPodTemplate | undefined {
  const given = typeof value === 'string' ? parseYaml(value) : value
  if (!isMapping(given)) return undefined
  if (Object.keys(given).some((name) => !TEMPLATE_KEYS.has(name))) return undefined
  if (given.kind !== undefined && given.kind !== 'Pod' && given.kind !== 'PodTemplate')
    return undefined
  const { metadata, spec } = given.kind === 'PodTemplate' ? toMapping(given.template) : given
  if (metadata === undefined && spec === undefined) return undefined
  if (![metadata, spec].every((part) => part === undefined || isMapping(part))) return undefined
  return {
    ...(metadata !== undefined && { metadata: metadata as TemplateMapping }),
    ...(spec !== undefined && { spec: spec as TemplateMapping }),
  }
}

/**
 * Merges `patch` into `base`, as a strategic merge patch does: mappings are merged, lists whose items have names are merged
 * by name, null removes a value, and everything else replaces the value of `base`.
 */
export function mergeTemplates(base: unknown, patch: unknown): unknown {
  if (patch === undefined) return base
  if (isMapping(base) && isMapping(patch)) {
    const merged = createDict<unknown>(base)
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete merged[name]
      else merged[name] = mergeTemplates(merged[name], value)
    }
    return merged
  }
  if (isNamedList(base) && isNamedList(patch)) {
    const merged = base.map((one) =>
      mergeTemplates(
        one,
        patch.find(({ name }) => name === one.name),
      ),
    )
    const known = new Set(base.map(({ name }) => name))
    return [...merged, ...patch.filter(({ name }) => !known.has(name))]
  }
  return patch
}

function parseYaml(text: string): unknown {
  if (text.length > MAX_TEMPLATE_LENGTH) return undefined
  try {
    return parse(text, { maxAliasCount: 100 })
  } catch {
    return undefined
  }
}

function isMapping(value: unknown): value is TemplateMapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function toMapping(value: unknown): TemplateMapping {
  return isMapping(value) ? value : {}
}

function isNamedList(value: unknown): value is readonly { name: string }[] {
  return (
    Array.isArray(value) && value.every((one) => isMapping(one) && typeof one.name === 'string')
  )
}
