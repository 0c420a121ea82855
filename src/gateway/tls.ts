/** Certificates from files. They are read again when they change, so that a renewed certificate needs no restart. */
import { readFileSync, statSync } from 'node:fs'
import { describeError, ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

export interface LoadedCertificate {
  readonly cert: Buffer
  readonly key: Buffer
}

/** Milliseconds between two checks of the files. A stat is cheap, and works where file watching does not. */
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

  /** Calls `use` with each new pair. A pair that cannot be read, or does not match, leaves the old one in use. */
  watch(use: (loaded: LoadedCertificate) => void): void {
    this.#timer = every(CHECK_INTERVAL, () => {
      try {
        if (this.#readFingerprint() !== this.#fingerprint) use(this.load())
      } catch {
        // The renewal may be half written. The next check reads it again.
      }
    })
  }

  #readFingerprint(): string {
    const { cert, key } = this.#files
    return [cert, key].map((file) => `${statSync(file).mtimeMs}/${statSync(file).size}`).join()
  }

  /** Stops the checks. */
  close(): void {
    this.#timer?.clear()
  }
}
