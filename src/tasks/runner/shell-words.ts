/** What a word of the shell cannot hold, and which command lines may leave something running. */

/** Longest single argument or variable that Linux takes is 128 KiB with its end; longer ones go by a file. */
export const MAX_WORD_BYTES = 120_000

/** Whether a text, in UTF-8, is longer than a word may be. */
export function exceedsWordLimit(text: string): boolean {
  return text.length > MAX_WORD_BYTES / 3 && Buffer.byteLength(text) > MAX_WORD_BYTES
}

/**
 * Whether a command line starts something in the background, as far as that can be seen: a lone `&`, or a word that
 * detaches. To be wrong here costs a new launcher (yes for no) or a second until the leftover is found (no for yes).
 */
export function mayDetach(command: string): boolean {
  return (
    /\b(?:nohup|setsid|disown|daemon|coproc)\b/.test(command) ||
    (command.includes('&') && /(?<![&<>|])&(?![&>])/.test(command))
  )
}
