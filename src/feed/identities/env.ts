/** Identities from environment variables: `HPFEEDS_<IDENT>_SECRET`, `_OWNER`, `_PUBCHANS`, `_SUBCHANS`. */
import type { IdentitySource } from '../rights.ts'

type IdentityVariables = Readonly<Record<string, string | undefined>>

/** Lists are separated by commas. As the original has it, the ident in a name is in capitals. */
export function fromEnv(env: IdentityVariables = process.env, prefix = 'HPFEEDS'): IdentitySource {
  const list = (text: string | undefined): string[] =>
    (text ?? '')
      .split(',')
      .map((one) => one.trim())
      .filter((one) => one !== '')
  return {
    find(ident) {
      const get = (name: string): string | undefined => {
        const key = `${prefix}_${ident.toUpperCase()}_${name}`
        return Object.hasOwn(env, key) ? env[key] : undefined
      }
      const secret = get('SECRET')
      if (!secret) return undefined
      return {
        ident,
        secret,
        owner: get('OWNER') ?? ident,
        publish: list(get('PUBCHANS')),
        subscribe: list(get('SUBCHANS')),
      }
    },
  }
}
