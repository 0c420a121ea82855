/** Finds programs. */
import { accessSync, constants, statSync } from 'node:fs'
import { resolve } from 'node:path'

/** Whether `exec`, of the system or of a shell, would find a program by that name. */
export function isProgramFound(command: string, cwd: string, path = ''): boolean {
  if (command.includes('/')) return isExecutable(resolve(cwd, command))
  return path.split(':').some((folder) => isExecutable(resolve(cwd, folder, command)))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
