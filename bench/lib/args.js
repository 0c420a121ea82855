/** What the command line says: names of scenarios, and how long the runs are to be. */
const words = process.argv.slice(2)

export const names = words.filter((word) => !word.startsWith('--'))
export const flags = words.filter((word) => word.startsWith('--'))

const length = flags.includes('--quick') ? 0 : flags.includes('--full') ? 2 : 1

/** The one of three values that fits the length of the run: `--quick`, default, `--full`. */
export function pick(quick, usual, full = usual) {
  return [quick, usual, full][length]
}
