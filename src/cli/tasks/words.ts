/** Words of our own command line as a line of shell. Pure. */

/** One word is a line of shell as it stands; more of them stay the words that they are. */
export function shellLine(words: readonly string[]): string {
  return words.length === 1 ? (words[0] as string) : words.map(quoted).join(' ')
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
