/** A date with or without a time of day, in the zone of this machine, like a Python date without a zone. */

export class ExpressionDate {
  readonly kind: 'datetime' | 'date'
  /** Milliseconds since 1970. */
  readonly timeMs: number

  constructor(is: 'datetime' | 'date', at: number) {
    this.kind = is
    const day = new Date(at)
    this.timeMs = is === 'date' ? day.setHours(0, 0, 0, 0) : at
  }

  /** `2026-11-30 08:05:00.123000`; without a time of day only the date. */
  toText(between = ' '): string {
    const date = this.format('%Y-%m-%d')
    if (this.kind === 'date') return date
    return `${date}${between}${this.format('%H:%M:%S')}${this.timeMs % 1_000 === 0 ? '' : this.format('.%f')}`
  }

  /** Formats as strftime. A `%` before an unknown letter stays as it is. */
  format(form: string): string {
    const day = new Date(this.timeMs)
    return form.replace(/%(.)/g, (whole, letter: string) => FORMATTERS.get(letter)?.(day) ?? whole)
  }

  /** A part such as `year` or `hour`; undefined where there is no such part. */
  getPart(name: string): number | undefined {
    const letter = PART_LETTERS.get(name)
    const isTime = letter !== undefined && 'HMSf'.includes(letter)
    if (letter === undefined || (isTime && this.kind === 'date')) return undefined
    return Number(this.format(`%${letter}`))
  }
}

const PART_LETTERS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    year: 'Y',
    month: 'm',
    day: 'd',
    hour: 'H',
    minute: 'M',
    second: 'S',
    microsecond: 'f',
  }),
)

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August'],
  ...['September', 'October', 'November', 'December'],
]

const FORMATTERS: ReadonlyMap<string, (day: Date) => string> = new Map(
  Object.entries({
    Y: (day: Date) => String(day.getFullYear()).padStart(4, '0'),
    y: (day: Date) => padTwo(day.getFullYear() % 100),
    m: (day: Date) => padTwo(day.getMonth() + 1),
    d: (day: Date) => padTwo(day.getDate()),
    H: (day: Date) => padTwo(day.getHours()),
    I: (day: Date) => padTwo(day.getHours() % 12 || 12),
    M: (day: Date) => padTwo(day.getMinutes()),
    S: (day: Date) => padTwo(day.getSeconds()),
    f: (day: Date) => `${String(day.getMilliseconds()).padStart(3, '0')}000`,
    p: (day: Date) => (day.getHours() < 12 ? 'AM' : 'PM'),
    j: (day: Date) => String(dayOfYear(day)).padStart(3, '0'),
    A: (day: Date) => DAYS[day.getDay()] as string,
    a: (day: Date) => (DAYS[day.getDay()] as string).slice(0, 3),
    B: (day: Date) => MONTHS[day.getMonth()] as string,
    b: (day: Date) => (MONTHS[day.getMonth()] as string).slice(0, 3),
    w: (day: Date) => String(day.getDay()),
    s: (day: Date) => String(Math.floor(day.getTime() / 1_000)),
    F: (day: Date) => `${day.getFullYear()}-${padTwo(day.getMonth() + 1)}-${padTwo(day.getDate())}`,
    T: (day: Date) =>
      `${padTwo(day.getHours())}:${padTwo(day.getMinutes())}:${padTwo(day.getSeconds())}`,
    '%': () => '%',
  }),
)

function padTwo(number: number): string {
  return String(number).padStart(2, '0')
}

function dayOfYear(day: Date): number {
  const from = Date.UTC(day.getFullYear(), 0, 1)
  const to = Date.UTC(day.getFullYear(), day.getMonth(), day.getDate())
  return Math.round((to - from) / 86_400_000) + 1
}
