/** `manyhost config edit`: opens a settings file in an editor. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { CliError, EXIT } from '../exit.ts'
import { replaceSignalListeners } from '../interrupt.ts'
import { readSettings, settingsPaths } from './files.ts'
import { SETTINGS_KEYS } from './keys.ts'
import { chooseScope, type ScopeFlags } from './scope.ts'
import { replaceSettingsFile } from './write.ts'

export async function run(_: readonly unknown[], flags: ScopeFlags): Promise<number> {
  const file = settingsPaths()[chooseScope(flags) ?? 'user']
  if (!existsSync(file)) replaceSettingsFile(file, formatStarterFile())
  const editor = process.env.VISUAL || process.env.EDITOR || 'vi'
  const [command = '', ...words] = editor.split(/\s+/).filter((word) => word !== '')
  // Ctrl-C is for the editor, which runs in the same terminal.
  replaceSignalListeners('SIGINT', () => {})
  try {
    const [code, signal] = await once(
      spawn(command, [...words, file], { stdio: 'inherit' }),
      'close',
    )
    if (code !== 0) throw new Error(`ended with ${code ?? signal}`)
  } catch (error) {
    throw new CliError('failure', `${editor}: ${describeError(error)}`, { cause: error })
  }
  await readSettings({ path: file })
  return EXIT.ok.number
}

/** A new file has all keys as comments. */
function formatStarterFile(): string {
  const sections = [...SETTINGS_KEYS].map(([section, keys]) =>
    [
      `# ${section}:`,
      ...[...keys.values()].map(
        ({ name, rule, meaning }) => `#   ${name}: ${rule.range}  # ${meaning}`,
      ),
    ].join('\n'),
  )
  return `# Defaults of manyhost tasks; see docs/tasks-config.md.\n${sections.join('\n')}\n`
}
