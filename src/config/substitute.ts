/** `${NAME}`, `${NAME:-default}` and `${file:path}` in a text. `$${` stands for `${` itself. */
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeError } from '../core/errors.ts'

export interface SubstitutionContext {
  /** The folder of relative paths. */
  readonly folder: string
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface SubstitutionResult {
  readonly text: string
  /** The substituted texts. They may be secret, so no message shows them. */
  readonly values: readonly string[]
  /** Mistakes, as sentences without a subject. */
  readonly errors: readonly string[]
}

/** A larger file is not a secret. */
const MAX_SECRET_SIZE = 1_048_576

export function substitute(text: string, context: SubstitutionContext): SubstitutionResult {
  const values: string[] = []
  const wrong: string[] = []
  const result = text.replace(/\$\$\{|\$\{([^{}]*)\}|\$\{/g, (whole, inside?: string) => {
    if (whole === '$${') return '${'
    if (inside === undefined) {
      wrong.push("has a '${' that is not closed; for the characters themselves write '$${'")
      return ''
    }
    const found = inside.startsWith('file:')
      ? readSecretFile(inside.slice(5).trim(), context)
      : lookUpVariable(inside, context)
    if ('wrong' in found) wrong.push(found.wrong)
    else values.push(found.value)
    return 'value' in found ? found.value : ''
  })
  return { text: result, values, errors: wrong }
}

type LookupResult = { readonly value: string } | { readonly wrong: string }

function lookUpVariable(inside: string, { env }: SubstitutionContext): LookupResult {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(inside)
  if (!match) {
    return {
      wrong: `has a '\${...}' that is none of \${NAME}, \${NAME:-default}, \${file:path}; for the characters themselves write '$\${'`,
    }
  }
  const name = match[1] as string
  const value = Object.hasOwn(env, name) ? env[name] : undefined
  if (match[2] !== undefined) return { value: value || match[2] }
  if (value !== undefined) return { value }
  return {
    wrong: `asks for the environment variable ${name}, which is not set; \${${name}:-default} has a default, and $\${${name}} is left as it is`,
  }
}

function readSecretFile(path: string, { folder }: SubstitutionContext): LookupResult {
  const file = resolve(folder, path)
  try {
    const { size } = statRegularFile(file)
    if (size > MAX_SECRET_SIZE)
      return { wrong: `asks for the file ${file}, which is larger than 1 MiB` }
    return { value: readFileSync(file, 'utf8').replace(/\r?\n$/, '') }
  } catch (error) {
    return { wrong: `asks for the file ${file}, which cannot be read: ${describeError(error)}` }
  }
}

/** Throws if the path is no regular file: reading a pipe or a device might never end. */
export function statRegularFile(path: string): { size: number } {
  const stats = statSync(path)
  if (!stats.isFile()) throw new Error('it is not a regular file')
  return stats
}
