/** Tasks as text, in the forms that people and programs read. Pure. */
import { stringify } from 'yaml'
import { toJson } from '../../tasks/json.ts'
import { taskAsJson } from '../../tasks/store/row.ts'
import { COLUMNS } from '../../tasks/store/tables.ts'
import type { Task } from '../../tasks/task.ts'
import { CliError } from '../exit.ts'
import { table } from '../table.ts'
import { printable } from '../terminal.ts'

export type Format = 'normal' | 'plain' | 'table' | 'csv' | 'json' | 'yaml'

const FIELDS: readonly string[] = COLUMNS.slice(1)

/** @throws CliError where there is no such field */
export function fieldsOf(given: readonly string[]): readonly string[] {
  const wrong = given.find((name) => !FIELDS.includes(name))
  if (wrong === undefined) return given.length > 0 ? given : FIELDS
  throw new CliError('usage', `no field '${wrong}'; there are ${FIELDS.join(', ')}`)
}

export function one(task: Task, format: Format): string {
  const json = taskAsJson(task)
  if (format === 'json') return `${toJson(json, 2)}\n`
  if (format === 'yaml') return stringify(json)
  return normal(json, FIELDS)
}

export function cell(value: unknown): string {
  if (value === null || value === undefined) return ''
  return typeof value === 'object' ? toJson(value) : String(value)
}

function normal(json: Record<string, unknown>, fields: readonly string[]): string {
  const width = Math.max(...fields.map((name) => name.length))
  const lines = fields.map(
    (name) => `${name.padStart(width)}: ${printable(cell(json[name]) || '-')}`,
  )
  return `${lines.join('\n')}\n`
}

/** Text of many tasks, a part at a time: what is printed does not have to fit into memory. */
export interface Printer {
  head(): string
  rows(tasks: readonly Task[], isFirst: boolean): string
  tail(isEmpty: boolean): string
}

export function printer(format: Format, fields: readonly string[], delimiter?: string): Printer {
  const none = (): string => ''
  const pick = (task: Task): Record<string, unknown> => {
    const json = taskAsJson(task)
    return Object.fromEntries(fields.map((name) => [name, json[name]]))
  }
  const joined = (
    tasks: readonly Task[],
    line: (json: Record<string, unknown>) => string,
  ): string => tasks.map((task) => line(pick(task))).join('')
  const values = (json: Record<string, unknown>): string[] => fields.map((name) => cell(json[name]))
  switch (format) {
    case 'json':
      return {
        head: () => '[',
        rows: (tasks, isFirst) =>
          tasks
            .map((task, i) => `${isFirst && i === 0 ? '' : ','}\n  ${toJson(pick(task))}`)
            .join(''),
        tail: () => '\n]\n',
      }
    case 'csv': {
      const between = delimiter ?? ','
      const line = (cells: readonly string[]): string =>
        `${cells.map((text) => quoted(text, between)).join(between)}\n`
      return {
        head: () => line(fields),
        rows: (tasks) => joined(tasks, (json) => line(values(json))),
        tail: none,
      }
    }
    case 'plain':
      return {
        head: none,
        rows: (tasks) =>
          joined(
            tasks,
            (json) =>
              `${values(json)
                .map(printable)
                .join(delimiter ?? '\t')}\n`,
          ),
        tail: none,
      }
    case 'table': {
      const lines = (tasks: readonly Task[]): string[] =>
        table(
          fields.map((title) => ({ title })),
          tasks.map((task) => values(pick(task)).map((text) => printable(text) || '-')),
        )
      return {
        head: none,
        rows: (tasks, isFirst) =>
          `${lines(tasks)
            .slice(isFirst ? 0 : 1)
            .join('\n')}\n`,
        tail: (isEmpty) => (isEmpty ? `${lines([]).join('\n')}\n` : ''),
      }
    }
    default:
      return {
        head: none,
        rows: (tasks, isFirst) =>
          tasks
            .map((task, i) => `${isFirst && i === 0 ? '' : '---\n'}${normal(pick(task), fields)}`)
            .join(''),
        tail: none,
      }
  }
}

/** RFC 4180. */
function quoted(text: string, delimiter: string): string {
  return /["\r\n]/.test(text) || text.includes(delimiter) ? `"${text.replaceAll('"', '""')}"` : text
}
