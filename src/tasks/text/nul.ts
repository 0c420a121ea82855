/** A command line is a C string, which ends at its first NUL. */

/** @throws Error for a text with a NUL character */
export function requireNoNul(text: string): void {
  if (text.includes('\0')) throw new Error('it has a NUL character, which no command line can hold')
}
