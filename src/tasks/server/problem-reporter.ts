/** Tells the user of problems that do not end the server: `onProblem`. */

export class ProblemReporter {
  readonly #onProblem: ((message: string) => void) | undefined
  #last = ''

  constructor(onProblem: ((message: string) => void) | undefined) {
    this.#onProblem = onProblem
  }

  /** A message that is the same as the last one is not repeated. */
  report(message: string): void {
    if (message === this.#last) return
    this.#last = message
    this.#onProblem?.(message)
  }
}
