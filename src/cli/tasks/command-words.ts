/** Turns the words of a command line into a line of shell or a request. Pure. */
import { describeError } from '../../core/errors.ts'
import { quoteShellWord } from '../../posix/shell-words.ts'
import type { NewTask } from '../../tasks/model/task.ts'
import { parseRequestTask } from '../../tasks/text/json-and-request-lines.ts'
import { CliError } from '../exit.ts'

/** A single word is a line of shell as it is. Several words are quoted, so that each stays one word. */
export function toShellLine(words: readonly string[]): string {
  return words.length === 1 ? (words[0] as string) : words.map(quoteShellWord).join(' ')
}

/** `POST http://calc/sums '{"of":[1,2]}'`. @throws CliError */
export function toRequestTask(words: readonly string[]): NewTask {
  try {
    return parseRequestTask(words.join(' '))
  } catch (error) {
    throw new CliError('usage', describeError(error))
  }
}
