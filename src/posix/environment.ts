/**
 * The one rule of what a program that we start inherits: our environment without our own secrets. What an option names
 * (`env`, MANYHOST_EXPORT_X) is passed on top of it, and is not asked about.
 */

/** Variables of ours, and of our ancestors, whose name says that they hold a secret. A file's name is none. */
const SECRET =
  /^(?:MANYHOST|HYPERSHELL|HPFEEDS)_(?:\w+_)?(?:TOKEN|KEY|SECRET|PASSWORD|PASSPHRASE|AUTH)$/

/** What is meant for tasks keeps its name. */
const EXPORTED = /^(?:MANYHOST|HYPERSHELL)_EXPORT_/

/** Any other of ours may hold an address with a password in it. */
const OUR_VARIABLES = /^(?:MANYHOST|HYPERSHELL)_/

/** A password in an address: `postgres://me:secret@host/db`, `host=db password=secret`. */
const URL_PASSWORD = /\b([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@]*):(?!\d+[/?#])[^\s'"]*@/gi
const PASSWORD_FIELD = /\b(password|passwd|pwd|sslpassword)(\s*=\s*)('[^']*'|[^\s&]+)/gi

/** Variables that this process was given for itself alone, as PGPASSWORD is for our store. */
const excludedNames = new Set<string>()

/** From now on nothing that is started inherits this variable. */
export function excludeFromChildren(name: string): void {
  excludedNames.add(name)
}

/** What programs that we start inherit. */
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

/** A text for people, without the passwords of the addresses in it. */
export function redactPasswords(text: string): string {
  return text.replace(URL_PASSWORD, '$1:***@').replace(PASSWORD_FIELD, '$1$2***')
}
