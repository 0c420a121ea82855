/** Parts that the shell scripts of several providers have in common. */
import { quoteShellWord } from '../../src/posix/shell-words.ts'

/** The exit code of a script that did not start its command. */
export const NOT_STARTED = 126

/** Lines that export each variable of an environment. */
export function exportLines(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([name, value]) => `export ${name}=${quoteShellWord(value)}`)
}

export function missingFolderText(cwd: string, command: string): string {
  return `cwd '${cwd}' does not exist, or is no folder, for command '${command}'`
}

export function missingCommandText(command: string): string {
  return `command '${command}' not found, or not executable`
}

/**
 * Sets `code` to the exit code of `$pid`. `wait` also ends when the shell gets a signal that it traps, so it is called
 * until the process has ended.
 */
export const WAIT_FOR_PID = `wait "$pid"; code=$?
while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done`

/** Defines `taken PORT`: whether somebody on the machine listens on the port, by the table of the kernel. */
export const TAKEN_FUNCTION = `taken() { grep -qsi "^ *[0-9]*: [0-9a-f]*:$(printf %04X "$1") [0-9a-f]*:0000 0A" /proc/net/tcp /proc/net/tcp6; }`

/** Defines `sweep`: it kills all processes that have the mark of an instance in their environment. */
export function sweepFunction(id: string): string {
  return `sweep() {
  passes=0
  while found=$(grep -lszxF -- ${quoteShellWord(`MANYHOST_INSTANCE=${id}`)} /proc/[0-9]*/environ 2>/dev/null); [ -n "$found" ] && [ "$passes" -lt 50 ]; do
    for file in $found; do file=\${file#/proc/}; kill -KILL "\${file%/environ}" 2>/dev/null; done
    passes=$((passes + 1))
    sleep 0.02 || sleep 1
  done
}`
}
