/**
 * A task is stored as what will be run: its template is filled in when it is accepted, and its folder, shell and environment
 * are those that were asked for there and then. Whoever runs it later adds nothing of his own.
 */
import type { NewTask } from './task.ts'
import { compileTemplate, type Template, TemplateError } from './template.ts'

/** What tasks are accepted with; what a task says itself comes first. */
export interface Acceptance {
  readonly template?: string | undefined
  readonly cwd?: string | undefined
  readonly shell?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly batch?: string | undefined
}

/** Templates that are kept compiled. */
const MOST_TEMPLATES = 100

/** Compiles each text once. @throws TemplateError */
export class Templates {
  readonly #known = new Map<string, Template>()

  get(text: string): Template {
    const known = this.#known.get(text)
    if (known) return known
    const made = compileTemplate(text)
    if (this.#known.size >= MOST_TEMPLATES) this.#known.clear()
    this.#known.set(text, made)
    return made
  }
}

/** Makes of a task what is stored of it. It throws, or rejects with, a TemplateError where the task's own template cannot be read. */
export function acceptor({
  template,
  cwd,
  shell,
  env = {},
  batch,
}: Acceptance): (task: NewTask) => NewTask | Promise<NewTask> {
  const templates = new Templates()
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
    return filled(own, compiled)
  }
}

/** A line that the template does not fit is a task that fails, as its runner will say. */
function filled(task: NewTask, template: Template): NewTask | Promise<NewTask> {
  try {
    const command = template.expand({ args: task.args, tag: task.tag ?? {} })
    if (typeof command === 'string') return fits(task, command)
    return command.then(
      (made) => fits(task, made),
      (error) => misfit(task, error),
    )
  } catch (error) {
    return misfit(task, error)
  }
}

function fits(task: NewTask, command: string): NewTask {
  // The runner says what is wrong with it.
  return command.includes('\0') || !command.isWellFormed() ? task : { ...task, command }
}

function misfit(task: NewTask, error: unknown): NewTask {
  if (error instanceof TemplateError) return task
  throw error
}
