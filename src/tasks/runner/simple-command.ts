/**
 * Finds command lines that need no shell of their own: one program and its arguments, with nothing to expand, redirect or join.
 * A shell for them would cost more than the fork that the launcher makes anyway (design.md has figures).
 */

import { isProgramFound } from '../../posix/programs.ts'

/**
 * Unquoted: only characters that no shell expands, joins or splits at. In single quotes: all. In double quotes: all but those
 * that begin an expansion.
 */
const SIMPLE_COMMAND = /^[ \t]*[\w./+-]+(?:[ \t]+(?:[\w./:,+@%=-]|'[^']*'|"[^"$`\\]*")+)*[ \t]*$/

const WORD = /(?:[\w./:,+@%=-]|'[^']*'|"[^"$`\\]*")+/g

/**
 * First words that ask a shell for more than to start a program: words of its grammar, and commands that read or change the shell
 * that they run in. Without a shell of their own that would be the launcher's fork, with the launcher's `$$`.
 */
const SHELL_WORDS = new Set(
  (
    'if then else elif fi for select while until do done case esac in function time coproc ' +
    '. source eval exec cd chdir dirs pushd popd command builtin trap set shopt enable export readonly local declare typeset let ' +
    'unset alias unalias exit return break continue shift getopts read mapfile readarray wait jobs fg bg ' +
    'disown suspend logout kill type hash help history fc times umask ulimit print whence'
  ).split(' '),
)

/** The words of such a command line; undefined: it needs a shell. */
export function parseSimpleCommand(command: string): readonly string[] | undefined {
  if (!SIMPLE_COMMAND.test(command)) return undefined
  const words = command.match(WORD) as string[]
  if (SHELL_WORDS.has(words[0] as string)) return undefined
  return words.map(unquote)
}

function unquote(word: string): string {
  if (!word.includes("'") && !word.includes('"')) return word
  return word.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single, double) => single ?? double)
}

/** Commands that are built into every shell, so also into the launcher. */
const BUILT_IN = new Set('echo test [ true false printf pwd :'.split(' '))

/** Programs that were found once. When there are too many, all are looked for again. */
const foundPrograms = new Set<string>()
const MAX_FOUND_PROGRAMS = 1_000

/** Whether the launcher has a command of that name. */
export function isAvailableCommand(name: string, cwd: string, path: string | undefined): boolean {
  if (BUILT_IN.has(name)) return true
  const key = name.includes('/') ? `${cwd}\0${name}` : `${path}\0${name}`
  if (foundPrograms.has(key)) return true
  if (!isProgramFound(name, cwd, path)) return false
  if (foundPrograms.size >= MAX_FOUND_PROGRAMS) foundPrograms.clear()
  foundPrograms.add(key)
  return true
}
