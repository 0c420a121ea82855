/** A date with or without a time of day, as expressions have it: of this machine's zone, as Python's without a zone is. */

export class Moment {
  readonly is: 'datetime' | 'date'
  /** Milliseconds since 1970. */
  readonly at: number

  constructor(is: 'datetime' | 'date', at: number) {
    this.is = is
    const day = new Date(at)
    this.at = is === 'date' ? day.setHours(0, 0, 0, 0) : at
  }

  /** `2026-11-30 08:05:00.123000`; a date has no more than itself. */
  text(between = ' '): string {
    const date = this.format('%Y-%m-%d')
    if (this.is === 'date') return date
    return `${date}${between}${this.format('%H:%M:%S')}${this.at % 1_000 === 0 ? '' : this.format('.%f')}`
  }

  /** As strftime; a `%` before any other letter stays. */
  format(form: string): string {
    const day = new Date(this.at)
    return form.replace(/%(.)/g, (whole, letter: string) => PARTS.get(letter)?.(day) ?? whole)
  }

  /** `year`, `hour`, ...; undefined where there is no such part. */
  part(name: string): number | undefined {
    const letter = ATTRIBUTES.get(name)
    const isTime = letter !== undefined && 'HMSf'.includes(letter)
    if (letter === undefined || (isTime && this.is === 'date')) return undefined
    return Number(this.format(`%${letter}`))
  }
}

const ATTRIBUTES: ReadonlyMap<string, string> = new Map(
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

const PARTS: ReadonlyMap<string, (day: Date) => string> = new Map(
  Object.entries({
    Y: (day: Date) => String(day.getFullYear()).padStart(4, '0'),
    y: (day: Date) => two(day.getFullYear() % 100),
    m: (day: Date) => two(day.getMonth() + 1),
    d: (day: Date) => two(day.getDate()),
    H: (day: Date) => two(day.getHours()),
    I: (day: Date) => two(day.getHours() % 12 || 12),
    M: (day: Date) => two(day.getMinutes()),
    S: (day: Date) => two(day.getSeconds()),
    f: (day: Date) => `${String(day.getMilliseconds()).padStart(3, '0')}000`,
    p: (day: Date) => (day.getHours() < 12 ? 'AM' : 'PM'),
    j: (day: Date) => String(dayOfYear(day)).padStart(3, '0'),
    A: (day: Date) => DAYS[day.getDay()] as string,
    a: (day: Date) => (DAYS[day.getDay()] as string).slice(0, 3),
    B: (day: Date) => MONTHS[day.getMonth()] as string,
    b: (day: Date) => (MONTHS[day.getMonth()] as string).slice(0, 3),
    w: (day: Date) => String(day.getDay()),
    s: (day: Date) => String(Math.floor(day.getTime() / 1_000)),
    F: (day: Date) => `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`,
    T: (day: Date) => `${two(day.getHours())}:${two(day.getMinutes())}:${two(day.getSeconds())}`,
    '%': () => '%',
  }),
)

function two(number: number): string {
  return String(number).padStart(2, '0')
}

function dayOfYear(day: Date): number {
  const from = Date.UTC(day.getFullYear(), 0, 1)
  const to = Date.UTC(day.getFullYear(), day.getMonth(), day.getDate())
  return Math.round((to - from) / 86_400_000) + 1
}
