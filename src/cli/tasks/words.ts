/** Words of our own command line as a line of shell, or as a request. Pure. */
import { describe } from '../../core/errors.ts'
import { taskOfRequest } from '../../tasks/other-lines.ts'
import type { NewTask } from '../../tasks/task.ts'
import { CliError } from '../exit.ts'

/** One word is a line of shell as it stands; more of them stay the words that they are. */
export function shellLine(words: readonly string[]): string {
  return words.length === 1 ? (words[0] as string) : words.map(quoted).join(' ')
}

export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** `POST http://calc/sums '{"of":[1,2]}'`. @throws CliError */
export function requestTask(words: readonly string[]): NewTask {
  try {
    return taskOfRequest(words.join(' '))
  } catch (error) {
    throw new CliError('usage', describe(error))
  }
}
