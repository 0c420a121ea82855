/** Certificates from files, read anew when they change: a renewed one needs no restart. */
import { readFileSync, statSync } from 'node:fs'
import { describe, ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

export interface Loaded {
  readonly cert: Buffer
  readonly key: Buffer
}

/** How often the files are looked at, in ms. A stat is cheap, and works where watching does not. */
const INTERVAL = 1_000

export class Certificates {
  readonly #files: { readonly cert: string; readonly key: string }
  #stamp = ''
  #timer: Timer | undefined

  constructor(files: { readonly cert: string; readonly key: string }) {
    this.#files = files
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  load(): Loaded {
    try {
      this.#stamp = this.#stat()
      const { cert, key } = this.#files
      return { cert: readFileSync(cert), key: readFileSync(key) }
    } catch (cause) {
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `gateway: tls: ${describe(cause)}`, {
        cause,
      })
    }
  }

  /** Calls back with each new pair; one that cannot be read, or does not fit, leaves the old one in use. */
  watch(use: (loaded: Loaded) => void): void {
    this.#timer = every(INTERVAL, () => {
      try {
        if (this.#stat() !== this.#stamp) use(this.load())
      } catch {
        // Half written, as by a renewal that is under way: the next look will tell.
      }
    })
  }

  #stat(): string {
    const { cert, key } = this.#files
    return [cert, key].map((file) => `${statSync(file).mtimeMs}/${statSync(file).size}`).join()
  }

  /** Stops looking. */
  close(): void {
    this.#timer?.clear()
  }
}
