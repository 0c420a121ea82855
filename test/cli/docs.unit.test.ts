/** docs/cli.md says what the code says: exit codes, commands, their options and examples. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ALL_COMMANDS } from '../../src/cli/all-commands.ts'
import { ADMIN_OPTIONS } from '../../src/cli/command.ts'
import { EXIT, TASK_EXIT } from '../../src/cli/exit.ts'

const doc = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8')

/** Cells of the rows of the first table in a text, without their back-ticks. */
function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| -'))
    .slice(1)
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) =>
          cell
            .trim()
            .replaceAll('\\|', '|')
            .replace(/^`(.*)`$/, '$1'),
        ),
    )
}

const [head = '', ...sections] = doc.split('\n## ')

describe('docs/cli.md', () => {
  it.each([
    ['Exit codes', EXIT],
    ['Exit codes of `run` and `tasks`', TASK_EXIT],
  ])('has every code of %s', (title, table) => {
    const section = sections.find((one) => one.startsWith(`${title}\n`)) ?? ''
    const expected = Object.values(table).map(({ number, meaning }) => [String(number), meaning])
    expect(rows(section)).toEqual(expected)
  })

  it('has the options of the commands that talk to the admin address', () => {
    expect(rows(head)).toEqual(ADMIN_OPTIONS.map(({ flags, meaning }) => [flags, meaning]))
  })

  it('has every command, in order', () => {
    const names = sections.slice(2).map((section) => section.split('\n', 1)[0])
    const expected = ALL_COMMANDS.map(({ name, args = [] }) =>
      ['`manyhost', name, ...args.map((arg) => arg.name)].join(' ').concat('`'),
    )
    expect(names).toEqual(expected)
  })

  it.each(ALL_COMMANDS.map((command) => [command.name, command] as const))(
    'has the options and examples of %s',
    (name, { options = [], examples, summary }) => {
      const section =
        sections.find((one) => /^`manyhost ([a-z ]*[a-z])/.exec(one)?.[1] === name) ?? ''
      expect(section.toLowerCase()).toContain(summary.toLowerCase())
      const expected = options.map(({ flags, meaning, choices }) => [
        flags,
        choices ? `${meaning} (${choices.join(', ')})` : meaning,
      ])
      expect(rows(section)).toEqual(expected)
      for (const [line] of examples) expect(section).toContain(`$ ${line}`)
    },
  )
})
