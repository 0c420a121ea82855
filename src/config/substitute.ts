/** `${NAME}`, `${NAME:-default}` and `${file:path}` in a text. `$${` stands for `${` itself. */
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe } from '../core/errors.ts'

export interface Surroundings {
  /** What relative paths are relative to. */
  readonly folder: string
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface Substituted {
  readonly text: string
  /** What was put in: it may be secret, and is in no message. */
  readonly values: readonly string[]
  /** What is wrong, as sentences without a subject. */
  readonly wrong: readonly string[]
}

/** A secret that is longer than this is none. */
const LARGEST = 1_048_576

export function substitute(text: string, surroundings: Surroundings): Substituted {
  const values: string[] = []
  const wrong: string[] = []
  const result = text.replace(/\$\$\{|\$\{([^{}]*)\}|\$\{/g, (whole, inside?: string) => {
    if (whole === '$${') return '${'
    if (inside === undefined) {
      wrong.push("has a '${' that is not closed; for the characters themselves write '$${'")
      return ''
    }
    const found = inside.startsWith('file:')
      ? fromFile(inside.slice(5).trim(), surroundings)
      : fromEnv(inside, surroundings)
    if ('wrong' in found) wrong.push(found.wrong)
    else values.push(found.value)
    return 'value' in found ? found.value : ''
  })
  return { text: result, values, wrong }
}

type Found = { readonly value: string } | { readonly wrong: string }

function fromEnv(inside: string, { env }: Surroundings): Found {
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

function fromFile(path: string, { folder }: Surroundings): Found {
  const file = resolve(folder, path)
  try {
    const { size } = plainFile(file)
    if (size > LARGEST) return { wrong: `asks for the file ${file}, which is larger than 1 MiB` }
    return { value: readFileSync(file, 'utf8').replace(/\r?\n$/, '') }
  } catch (error) {
    return { wrong: `asks for the file ${file}, which cannot be read: ${describe(error)}` }
  }
}

/** Throws for what is no file: to read a pipe or a device could take for ever. */
export function plainFile(path: string): { size: number } {
  const stats = statSync(path)
  if (!stats.isFile()) throw new Error('it is not a file')
  return stats
}
