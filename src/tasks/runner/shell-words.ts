/** What a word of the shell cannot hold, and which command lines may leave something running. */

/** Longest argument or variable. Linux takes 128 KiB with the terminating NUL; a longer command is passed in a file. */
export const MAX_WORD_BYTES = 120_000

/** Whether a text, in UTF-8, is longer than a word may be. */
export function exceedsWordLimit(text: string): boolean {
  return text.length > MAX_WORD_BYTES / 3 && Buffer.byteLength(text) > MAX_WORD_BYTES
}

/**
 * Whether a command line starts something in the background, as far as that can be seen: by a lone `&`, or by a word that
 * detaches. A wrong yes costs a new launcher; after a wrong no, it takes a second until the process that was left is found.
 */
export function mayDetach(command: string): boolean {
  return (
    /\b(?:nohup|setsid|disown|daemon|coproc)\b/.test(command) ||
    (command.includes('&') && /(?<![&<>|])&(?![&>])/.test(command))
  )
}
