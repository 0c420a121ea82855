/**
 * The environment that a program inherits from us: our own environment without our own secrets. The variables that an
 * option names (`env`, MANYHOST_EXPORT_X) are added to it without any check.
 */

/** Variables of manyhost, HyperShell and hpfeeds whose name says that they hold a secret. The name of a file is none. */
const SECRET =
  /^(?:MANYHOST|HYPERSHELL|HPFEEDS)_(?:\w+_)?(?:TOKEN|KEY|SECRET|PASSWORD|PASSPHRASE|AUTH)$/

/** Variables that are meant for tasks are passed on under their own name. */
const EXPORTED = /^(?:MANYHOST|HYPERSHELL)_EXPORT_/

/** Any other variable of ours may hold an address with a password in it. */
const OUR_VARIABLES = /^(?:MANYHOST|HYPERSHELL)_/

/** The two forms of a password in an address: `postgres://me:secret@host/db`, `host=db password=secret`. */
const URL_PASSWORD = /\b([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@]*):(?!\d+[/?#])[^\s'"]*@/gi
const PASSWORD_FIELD = /\b(password|passwd|pwd|sslpassword)(\s*=\s*)('[^']*'|[^\s&]+)/gi

/** Variables that were given to this process alone, as PGPASSWORD for our store. */
const excludedNames = new Set<string>()

/** From now on no program that we start inherits this variable. */
export function excludeFromChildren(name: string): void {
  excludedNames.add(name)
}

/** The environment that a program which we start inherits. */
export function inheritedEnvironment(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const kept: Record<string, string> = Object.create(null)
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && !isSecret(name, value)) kept[name] = value
  }
  return kept
}

function isSecret(name: string, value: string): boolean {
  if (EXPORTED.test(name)) return false
  if (excludedNames.has(name) || SECRET.test(name)) return true
  return OUR_VARIABLES.test(name) && redactPasswords(value) !== value
}

/** The text with each password of an address in it replaced by `***`, for people to read. */
export function redactPasswords(text: string): string {
  return text.replace(URL_PASSWORD, '$1:***@').replace(PASSWORD_FIELD, '$1$2***')
}
