/**
 * A task is stored as it will be run: its template is expanded when it is accepted, and its folder, shell and environment are
 * those that were asked for at that time. The runner adds nothing to the task.
 */

import { type CommandTemplate, compileTemplate, TemplateError } from '../text/template.ts'
import type { NewTask } from './task.ts'

/** Defaults for tasks that are accepted. Fields of the task itself come first. */
export interface AcceptOptions {
  readonly template?: string | undefined
  readonly cwd?: string | undefined
  readonly shell?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly batch?: string | undefined
}

/** Compiled templates that are kept. */
const MAX_TEMPLATES = 100

/** Compiles each text once. @throws TemplateError */
export class TemplateCache {
  readonly #compiled = new Map<string, CommandTemplate>()

  get(text: string): CommandTemplate {
    const known = this.#compiled.get(text)
    if (known) return known
    const made = compileTemplate(text)
    if (this.#compiled.size >= MAX_TEMPLATES) this.#compiled.clear()
    this.#compiled.set(text, made)
    return made
  }
}

/**
 * Makes the function that turns a given task into the task that is stored.
 * It throws, or rejects with, a TemplateError where the task's own template is invalid.
 */
export function createTaskAcceptor({
  template,
  cwd,
  shell,
  env = {},
  batch,
}: AcceptOptions): (task: NewTask) => NewTask | Promise<NewTask> {
  const templates = new TemplateCache()
  const hasEnv = Object.keys(env).length > 0
  return (task) => {
    const own: { -readonly [Name in keyof NewTask]: NewTask[Name] } = { ...task }
    if (batch !== undefined) own.batch = batch
    if (cwd !== undefined) own.cwd ??= cwd
    if (task.request) return own
    if (shell !== undefined) own.shell ??= shell
    if (hasEnv) own.env = { ...env, ...task.env }
    if (own.command !== undefined) return own
    const text = own.template ?? template ?? '{}'
    const compiled = templates.get(text)
    if (compiled.isPlain) {
      delete own.template
      return own
    }
    own.template = text
    if (compiled.needsRunner) return own
    return expandTemplate(own, compiled)
  }
}

/** A line that does not fit the template is accepted. The task fails when it is run, and the runner says why. */
function expandTemplate(task: NewTask, template: CommandTemplate): NewTask | Promise<NewTask> {
  try {
    const command = template.expand({ args: task.args, tag: task.tag ?? {} })
    if (typeof command === 'string') return withCommand(task, command)
    return command.then(
      (made) => withCommand(task, made),
      (error) => keepOnTemplateError(task, error),
    )
  } catch (error) {
    return keepOnTemplateError(task, error)
  }
}

function withCommand(task: NewTask, command: string): NewTask {
  // Such a command fails when it is run, and the runner says why.
  return command.includes('\0') || !command.isWellFormed() ? task : { ...task, command }
}

function keepOnTemplateError(task: NewTask, error: unknown): NewTask {
  if (error instanceof TemplateError) return task
  throw error
}
