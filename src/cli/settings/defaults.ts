/** Sets options that the command line does not set from settings files and the environment. */
import type { Command } from 'commander'
import { mergeSettings, readSettingsLayers } from './files.ts'
import { listExclusiveOptions } from './keys.ts'

/** @throws CliError */
export async function applySettings(command: Command, section: string): Promise<void> {
  const isGiven = (name: string): boolean => command.getOptionValueSource(name) === 'cli'
  for (const [name, value] of mergeSettings(section, await readSettingsLayers())) {
    if (isGiven(name) || listExclusiveOptions(name).some(isGiven)) continue
    command.setOptionValueWithSource(name, value, 'config')
  }
}
