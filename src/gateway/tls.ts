/** Certificates from files, read anew when they change: a renewed one needs no restart. */
import { readFileSync, statSync } from 'node:fs'
import { describeError, ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

export interface LoadedCertificate {
  readonly cert: Buffer
  readonly key: Buffer
}

/** How often the files are looked at, in ms. A stat is cheap, and works where watching does not. */
const CHECK_INTERVAL = 1_000

export class Certificates {
  readonly #files: { readonly cert: string; readonly key: string }
  #fingerprint = ''
  #timer: Timer | undefined

  constructor(files: { readonly cert: string; readonly key: string }) {
    this.#files = files
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  load(): LoadedCertificate {
    try {
      this.#fingerprint = this.#readFingerprint()
      const { cert, key } = this.#files
      return { cert: readFileSync(cert), key: readFileSync(key) }
    } catch (cause) {
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `gateway: tls: ${describeError(cause)}`, {
        cause,
      })
    }
  }

  /** Calls back with each new pair; one that cannot be read, or does not fit, leaves the old one in use. */
  watch(use: (loaded: LoadedCertificate) => void): void {
    this.#timer = every(CHECK_INTERVAL, () => {
      try {
        if (this.#readFingerprint() !== this.#fingerprint) use(this.load())
      } catch {
        // Half written, as by a renewal that is under way: the next look will tell.
      }
    })
  }

  #readFingerprint(): string {
    const { cert, key } = this.#files
    return [cert, key].map((file) => `${statSync(file).mtimeMs}/${statSync(file).size}`).join()
  }

  /** Stops looking. */
  close(): void {
    this.#timer?.clear()
  }
}
