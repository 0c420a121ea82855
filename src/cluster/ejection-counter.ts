/** Counts the ejections of an instance. They are in a row as long as it serves no request between them. */
export class EjectionCounter {
  inARow = 0
  #servedBefore = 0

  /**
   * @param served requests that the instance has served so far
   * @returns ejections in a row, this one included
   */
  record(served: number): number {
    this.inARow = served > this.#servedBefore ? 1 : this.inARow + 1
    this.#servedBefore = served
    return this.inARow
  }
}
