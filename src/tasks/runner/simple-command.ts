/**
 * Command lines that need no shell of their own: one program and its arguments, with nothing to expand, to redirect or
 * to join. To start `/bin/sh` for them costs more than the fork that the launcher makes anyway (design.md).
 */

import { isProgramFound } from '../../posix/programs.ts'

/** Unquoted characters that no shell expands, joins or splits at, inside single quotes all, inside double quotes all but those of expansion. */
const SIMPLE_COMMAND = /^[ \t]*[\w./+-]+(?:[ \t]+(?:[\w./:,+@%=-]|'[^']*'|"[^"$`\\]*")+)*[ \t]*$/

const WORD = /(?:[\w./:,+@%=-]|'[^']*'|"[^"$`\\]*")+/g

/**
 * Names by which a line asks a shell for more than to start a program: words of its grammar, and what looks at or changes
 * the shell that it runs in (which would be the launcher's fork, with the launcher's `$$`).
 */
const SHELL_WORDS = new Set(
  (
    'if then else elif fi for select while until do done case esac in function time coproc ' +
    '. source eval exec cd chdir dirs pushd popd command builtin trap set shopt enable export readonly local declare typeset let ' +
    'unset alias unalias exit return break continue shift getopts read mapfile readarray wait jobs fg bg ' +
    'disown suspend logout kill type hash help history fc times umask ulimit print whence'
  ).split(' '),
)

/** The words of such a command; `undefined` for one that is for a shell to read. */
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

/** Commands that are built into every shell. */
const BUILT_IN = new Set('echo test [ true false printf pwd :'.split(' '))

/** Programs that were found once; looked for again when there are so many. */
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
