/** Draws at random what the grammar of the fuzz test is made of. */
import type { RandomNumber } from '../../providers/testing/fault-plan.ts'

const NAMES = [
  'x-a',
  'constructor',
  '__proto__',
  'Host',
  'Authorization',
  'From',
  'User-Agent',
  'If-None-Match',
  'Range',
  'TE',
  'Keep-Alive',
  'Proxy-Connection',
  'HTTP2-Settings',
  'Trailer',
  'Content-Disposition',
  'Date',
  'Set-Cookie',
  'ETag',
  'Via',
  'X-Manyhost-Attempt',
  'Link',
  'Content-Language',
  'Vary',
  'Proxy-Authenticate',
  'toString',
  'Upgrade',
] as const
const VALUES = [
  'a',
  '',
  '\xe9',
  '\xc3\xa9',
  'a, b',
  'close',
  '"x"',
  'b \t',
  'chunked',
  'trailers',
  'x'.repeat(300),
] as const
export class RandomDraw {
  readonly random: RandomNumber

  constructor(random: RandomNumber) {
    this.random = random
  }

  below(count: number): number {
    return Math.floor(this.random() * count)
  }

  one<T>(all: readonly T[]): T {
    return all[this.below(all.length)] as T
  }

  chance(percent: number): boolean {
    return this.random() * 100 < percent
  }

  id(): string {
    return Math.floor(this.random() * 0x1_0000_0000)
      .toString(16)
      .padStart(8, '0')
  }

  /** Cut at random places. */
  pieces(text: string, most: number): string[] {
    const cuts = Array.from({ length: this.below(most) }, () => this.below(text.length + 1))
    const places = [0, ...cuts.sort((a, b) => a - b), text.length]
    return places.slice(1).map((end, index) => text.slice(places[index], end))
  }

  chunks(body: string): string {
    const pieces = body === '' ? [] : this.pieces(body, 4).filter((piece) => piece !== '')
    const extension = this.chance(10) ? ';a=b' : ''
    return pieces
      .map((piece) => `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`)
      .join('')
  }

  lines(most: number): string {
    let lines = ''
    for (let count = this.below(most); count > 0; count--) {
      const line = `${this.one(NAMES)}: ${this.one(VALUES)}\r\n`
      lines += this.chance(25) ? line + line : line
    }
    return lines
  }

  mutated(text: string): string {
    let bytes = text
    for (let count = 1 + this.below(3); count > 0; count--) {
      const at = this.below(bytes.length)
      const byte = String.fromCharCode(
        this.chance(50) ? this.below(256) : this.one([0, 9, 10, 13, 32, 44, 58, 127]),
      )
      const skipped = at + this.one([0, 1, 1, 1, 2, 5])
      bytes = bytes.slice(0, at) + (this.chance(80) ? byte : '') + bytes.slice(skipped)
    }
    return bytes
  }
}
