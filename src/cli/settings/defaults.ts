/** Puts what files and the environment say where the command line says nothing. */
import type { Command } from 'commander'
import { readLayers, settingsOf } from './files.ts'
import { alternatives } from './keys.ts'

/** @throws CliError */
export async function applySettings(command: Command, section: string): Promise<void> {
  const isGiven = (name: string): boolean => command.getOptionValueSource(name) === 'cli'
  for (const [name, value] of settingsOf(section, await readLayers())) {
    if (isGiven(name) || alternatives(name).some(isGiven)) continue
    command.setOptionValueWithSource(name, value, 'config')
  }
}
