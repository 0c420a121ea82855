/** Identities from environment variables: `HPFEEDS_<IDENT>_SECRET`, `_OWNER`, `_PUBCHANS`, `_SUBCHANS`. */
import type { IdentitySource } from '../rights.ts'

type IdentityVariables = Readonly<Record<string, string | undefined>>

/** Channels are separated by commas. As in the original, the ident is in capitals in the variable's name. */
export function fromEnv(env: IdentityVariables = process.env, prefix = 'HPFEEDS'): IdentitySource {
  const list = (text: string | undefined): string[] =>
    (text ?? '')
      .split(',')
      .map((channel) => channel.trim())
      .filter((channel) => channel !== '')
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
