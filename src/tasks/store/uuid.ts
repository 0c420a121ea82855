/**
 * Ids that grow with time (UUIDs of version 7, RFC 9562). Ids of the same time are neighbours in the index, so the ten
 * millionth is inserted as fast as the tenth.
 */
import { randomBytes } from 'node:crypto'
import { wallClock } from '../../core/time.ts'

/** Random digits of one id. */
const RANDOM_DIGITS = 14

let last = 0
let counter = 0

/** Random digits for the next ids: reading eight random bytes costs as much as reading thousands. */
let digits = ''
let used = 0

/** A UUID greater than all that this process made before. */
export function newId(): string {
  const at = wallClock()
  // Within a millisecond, and after the clock was set back, the counter grows. When it is full, the time is advanced.
  if (at > last) {
    last = at
    counter = 0
  } else if (++counter > 0x3ffff) {
    last++
    counter = 0
  }
  const time = last.toString(16).padStart(12, '0')
  const high = (counter >>> 6).toString(16).padStart(3, '0')
  const low = (0x80 | (counter & 0x3f)).toString(16)
  if (used + RANDOM_DIGITS > digits.length) {
    digits = randomBytes(RANDOM_DIGITS * 256).toString('hex')
    used = 0
  }
  const random = digits.slice(used, used + RANDOM_DIGITS)
  used += RANDOM_DIGITS
  return `${time.slice(0, 8)}-${time.slice(8)}-7${high}-${low}${random.slice(0, 2)}-${random.slice(2)}`
}
