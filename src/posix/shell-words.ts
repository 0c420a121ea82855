/** Quoting for the POSIX shell: a text becomes one word of a command line. */

/** Matches words that every POSIX shell takes as they are. */
const SAFE_WORD = /^[\w@%+=:,./-]+$/

/**
 * Makes one shell word of a text. A text of safe characters stays readable, without quotes. Do not use it for the first
 * word of a command, where `if` is a keyword and `A=b` an assignment: see `alwaysQuoteShellWord`.
 */
export function quoteShellWord(text: string): string {
  return SAFE_WORD.test(text) ? text : alwaysQuoteShellWord(text)
}

/** Makes one shell word of a text, in single quotes always: `it's` becomes `'it'\''s'`. Between them nothing is special. */
export function alwaysQuoteShellWord(text: string): string {
  return `'${text.includes("'") ? text.replaceAll("'", `'\\''`) : text}'`
}
