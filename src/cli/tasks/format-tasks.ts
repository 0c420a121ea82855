/** Formats tasks for people and for programs. Pure. */
import { stringify } from 'yaml'
import type { Task } from '../../tasks/model/task.ts'
import { TASK_COLUMNS } from '../../tasks/model/task-columns.ts'
import { taskToJson } from '../../tasks/store/row.ts'
import { toJson } from '../../tasks/text/exact-json.ts'
import { CliError } from '../exit.ts'
import { formatTable } from '../table.ts'
import { printable } from '../terminal.ts'

export type TaskFormat = 'normal' | 'plain' | 'table' | 'csv' | 'json' | 'yaml'

const FIELD_NAMES: readonly string[] = TASK_COLUMNS.slice(1)

/** Answers all fields if none is given. @throws CliError for an unknown field */
export function checkFields(given: readonly string[]): readonly string[] {
  const wrong = given.find((name) => !FIELD_NAMES.includes(name))
  if (wrong === undefined) return given.length > 0 ? given : FIELD_NAMES
  throw new CliError(
    'usage',
    `no field is called '${wrong}'; the fields are ${FIELD_NAMES.join(', ')}`,
  )
}

export function formatTask(task: Task, format: TaskFormat): string {
  const json = taskToJson(task)
  if (format === 'json') return `${toJson(json, 2)}\n`
  if (format === 'yaml') return stringify(json)
  return formatNormal(json, FIELD_NAMES)
}

export function formatCell(value: unknown): string {
  if (value === null || value === undefined) return ''
  return typeof value === 'object' ? toJson(value) : String(value)
}

function formatNormal(json: Record<string, unknown>, fields: readonly string[]): string {
  const width = Math.max(...fields.map((name) => name.length))
  const lines = fields.map(
    (name) => `${name.padStart(width)}: ${printable(formatCell(json[name]) || '-')}`,
  )
  return `${lines.join('\n')}\n`
}

/** Formats many tasks part by part, so that the output does not have to fit into memory. */
export interface TaskFormatter {
  formatHead(): string
  formatRows(tasks: readonly Task[], isFirst: boolean): string
  formatTail(isEmpty: boolean): string
}

export function createTaskFormatter(
  format: TaskFormat,
  fields: readonly string[],
  delimiter?: string,
): TaskFormatter {
  const none = (): string => ''
  const pick = (task: Task): Record<string, unknown> => {
    const json = taskToJson(task)
    return Object.fromEntries(fields.map((name) => [name, json[name]]))
  }
  const joined = (
    tasks: readonly Task[],
    line: (json: Record<string, unknown>) => string,
  ): string => tasks.map((task) => line(pick(task))).join('')
  const values = (json: Record<string, unknown>): string[] =>
    fields.map((name) => formatCell(json[name]))
  switch (format) {
    case 'json':
      return {
        formatHead: () => '[',
        formatRows: (tasks, isFirst) =>
          tasks
            .map((task, i) => `${isFirst && i === 0 ? '' : ','}\n  ${toJson(pick(task))}`)
            .join(''),
        formatTail: () => '\n]\n',
      }
    case 'csv': {
      const between = delimiter ?? ','
      const line = (cells: readonly string[]): string =>
        `${cells.map((text) => quoteCsvCell(text, between)).join(between)}\n`
      return {
        formatHead: () => line(fields),
        formatRows: (tasks) => joined(tasks, (json) => line(values(json))),
        formatTail: none,
      }
    }
    case 'plain':
      return {
        formatHead: none,
        formatRows: (tasks) =>
          joined(
            tasks,
            (json) =>
              `${values(json)
                .map(printable)
                .join(delimiter ?? '\t')}\n`,
          ),
        formatTail: none,
      }
    case 'table': {
      const lines = (tasks: readonly Task[]): string[] =>
        formatTable(
          fields.map((title) => ({ title })),
          tasks.map((task) => values(pick(task)).map((text) => printable(text) || '-')),
        )
      return {
        formatHead: none,
        formatRows: (tasks, isFirst) =>
          `${lines(tasks)
            .slice(isFirst ? 0 : 1)
            .join('\n')}\n`,
        formatTail: (isEmpty) => (isEmpty ? `${lines([]).join('\n')}\n` : ''),
      }
    }
    default:
      return {
        formatHead: none,
        formatRows: (tasks, isFirst) =>
          tasks
            .map(
              (task, i) =>
                `${isFirst && i === 0 ? '' : '---\n'}${formatNormal(pick(task), fields)}`,
            )
            .join(''),
        formatTail: none,
      }
  }
}

/** RFC 4180. */
function quoteCsvCell(text: string, delimiter: string): string {
  return /["\r\n]/.test(text) || text.includes(delimiter) ? `"${text.replaceAll('"', '""')}"` : text
}
