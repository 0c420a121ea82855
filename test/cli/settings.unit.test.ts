/** What files and the environment say to commands: which keys there are, and who counts. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ALL_COMMANDS } from '../../src/cli/all-commands.ts'
import {
  mergeSettings,
  readSettings,
  type SettingsLayer,
  settingsPaths,
} from '../../src/cli/settings/files.ts'
import { COMMON_SECTION, SETTINGS_KEYS } from '../../src/cli/settings/keys.ts'
import { parseSettingText } from '../../src/cli/settings/rules.ts'
import { rejectionOf } from '../help.ts'

const layer = (
  scope: SettingsLayer['scope'],
  sections: SettingsLayer['sections'],
): SettingsLayer => ({ scope, sections })

const of = (section: string, ...layers: SettingsLayer[]): Record<string, unknown> =>
  Object.fromEntries(mergeSettings(section, layers, {}))

const read = (text: string, env = {}): Promise<unknown> =>
  readSettings({ path: '/etc/manyhost/tasks.yaml', text }, env)

describe('keys', () => {
  it('are in docs/tasks-config.md, all of them', () => {
    const rows = new Map<string, string[]>()
    for (const [section, keys] of SETTINGS_KEYS) {
      for (const { name, rule, meaning } of section === COMMON_SECTION ? [] : keys.values()) {
        const id = [`\`${name}\``, `\`${rule.range}\``, meaning].join(' | ')
        rows.set(id, [...(rows.get(id) ?? []), section])
      }
    }
    const doc = readFileSync(new URL('../../docs/tasks-config.md', import.meta.url), 'utf8')
    const shown = doc
      .split('\n')
      .filter((line) => line.startsWith('| `'))
      .map((line) =>
        line
          .slice(1, -1)
          .split(/(?<!\\)\|/)
          .map((cell) => cell.trim()),
      )
      .map(([name, range, sections, meaning]) => [[name, range, meaning].join(' | '), sections])
    expect(shown.filter(([, sections]) => sections !== undefined)).toEqual(
      [...rows].map(([id, sections]) => [id, sections.join(' ')]),
    )
  })

  it('are the options of commands, but for what is said once', () => {
    for (const { settingsSection: section, options = [] } of ALL_COMMANDS) {
      if (section === undefined) continue
      const names = options.filter(({ commandLineOnly: once }) => !once).map(({ flags }) => flags)
      expect(
        [...(SETTINGS_KEYS.get(section)?.values() ?? [])].map(({ option }) => option.flags),
      ).toEqual(names)
    }
    const all = [...SETTINGS_KEYS.values()].flatMap((keys) => [...keys.keys()])
    for (const harm of ['delete', 'cancel', 'revert', 'truncate', 'yes', 'restart', 'where']) {
      expect(all).not.toContain(harm)
    }
  })

  it('of one name have one meaning in the section for all', () => {
    expect(SETTINGS_KEYS.get(COMMON_SECTION)?.has('format')).toBe(false)
    expect(SETTINGS_KEYS.get('list')?.has('format')).toBe(true)
    expect(SETTINGS_KEYS.get(COMMON_SECTION)?.get('maxRetries')?.env).toEqual([
      'MANYHOST_TASKS_MAX_RETRIES',
    ])
    expect(SETTINGS_KEYS.get('cluster')?.get('maxRetries')?.env).toEqual([
      'MANYHOST_CLUSTER_MAX_RETRIES',
    ])
  })

  it('and variables never mean two things', () => {
    const all = [...SETTINGS_KEYS.values()].flatMap((keys) =>
      [...keys.values()].flatMap(({ env }) => env),
    )
    expect(new Set(all).size).toBe(all.length)
  })
})

describe('settings', () => {
  it('count the more the nearer they are, and in one place those of the command', () => {
    const system = layer('system', {
      tasks: { maxRetries: 1, eager: true },
      cluster: { poll: '2s' },
    })
    const local = layer('local', { tasks: { maxRetries: 3 } })
    expect(of('cluster', system, local)).toEqual({ maxRetries: 3, eager: true, poll: 2_000 })
    expect(
      of('cluster', layer('user', { cluster: { maxRetries: 2 }, tasks: { maxRetries: 9 } })),
    ).toEqual({ maxRetries: 2 })
    expect(of('submit', system, local)).toEqual({})
  })

  it('are values as the command line gives them', () => {
    const said = { maxMemory: '2GB', numTasks: 4, ssh: ['a', 'b'], autoscaling: true, template: 5 }
    expect(of('cluster', layer('user', { cluster: said }))).toEqual({
      ...said,
      maxMemory: 2_000_000_000,
      template: '5',
    })
    expect(of('cluster', layer('user', { cluster: { taskTimeout: '01:30:00' } }))).toEqual({
      taskTimeout: 5_400_000,
    })
  })

  it('displace what they exclude', () => {
    const user = layer('user', { tasks: { server: 'http://far', tokenFile: 'x', mpi: true } })
    expect(of('submit', user, layer('local', { tasks: { store: 'a.db' } }))).toEqual({
      tokenFile: 'x',
      store: 'a.db',
    })
    expect(of('cluster', user, layer('local', { cluster: { ssh: ['a'] } }))).toEqual({ ssh: ['a'] })
    const environment = layer('environment', {})
    const found = mergeSettings('submit', [user, environment], { MANYHOST_TASKS_TOKEN: 'y' })
    expect(Object.fromEntries(found)).toEqual({ server: 'http://far' })
  })

  it('are where the store is, unless XDG_CONFIG_HOME says otherwise', () => {
    const { system, user } = settingsPaths({ XDG_CONFIG_HOME: '/x' })
    expect([system, user]).toEqual(['/etc/manyhost/tasks.yaml', '/x/manyhost/tasks.yaml'])
    expect(settingsPaths({}).user).toMatch(/\/\.manyhost\/tasks\.yaml$/)
  })
})

describe('a file of settings', () => {
  it('is read with what its variables stand for, and may be empty', async () => {
    const text =
      // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
      'x-own: 1\ntasks:\n  store: postgres://me:${P}@db\ncluster:\n  confirm: false\nsubmit:\n'
    expect(await read(text, { P: 's3cret' })).toEqual({
      tasks: { store: 'postgres://me:s3cret@db' },
      cluster: { confirm: false },
      submit: {},
    })
    expect(await read('')).toEqual({})
    expect(await read('# nothing but this\n')).toEqual({})
  })

  it.each([
    [
      'cluster: { maxRetris: 1 }',
      /:1:12: cluster has no key 'maxRetris'; did you mean 'maxRetries'\?/,
    ],
    ['clutser: {}', /the file has no key 'clutser'; did you mean 'cluster'\?/],
    ['cluster: { maxRetries: some }', /cluster\.maxRetries: expected a whole number.*got "some"/],
    ['cluster: { maxMemory: lots }', /cluster\.maxMemory: a size must be .*got "lots"/],
    ['cluster: { eager: 3 }', /cluster\.eager must be true or false, got 3/],
    ['cluster: { ssh: a }', /cluster\.ssh must be a list of <hosts>, got "a"/],
    ['cluster: { template: {} }', /cluster\.template must be <text>, got a mapping/],
    ['list: { format: yml }', /list\.format must be .*'table'.*got "yml"/],
    ['tasks: { format: json }', /tasks has no key 'format'/],
    ['update: { delete: true }', /update has no key 'delete'/],
    ['tasks: { store_eval: pass show db }', /tasks has no key 'store_eval'/],
    ['tasks: [a]', /tasks must be a mapping/],
    ['tasks: { store: [postgres://me:s3cret@db] }', /tasks\.store must be <where>, got something/],
    ['tasks: {', /YAML/],
  ])('is refused where it is wrong: %s', async (text, message) => {
    const error = await rejectionOf(read(text))
    expect(error).toMatchObject({ exitKind: 'config', message: expect.stringMatching(message) })
    expect(error.message).not.toContain('s3cret')
  })
})

describe('a word', () => {
  const key = (name: string) => {
    const found = SETTINGS_KEYS.get('cluster')?.get(name)
    if (!found) throw new Error(`no key ${name}`)
    return found
  }

  it('is read as a file would say it', () => {
    expect(parseSettingText(key('eager'), 'TRUE')).toBe(true)
    expect(parseSettingText(key('eager'), '0')).toBe(false)
    expect(parseSettingText(key('autoscaling'), 'true')).toBe(true)
    expect(parseSettingText(key('autoscaling'), 'fixed')).toBe('fixed')
    expect(parseSettingText(key('maxRetries'), '3')).toBe(3)
    expect(parseSettingText(key('period'), '5m')).toBe('5m')
    expect(parseSettingText(key('ssh'), ' a  b ')).toEqual(['a', 'b'])
    expect(parseSettingText(key('template'), 'true')).toBe('true')
  })

  it('is refused with what was expected', () => {
    expect(() => parseSettingText(key('eager'), 'maybe')).toThrow(
      /expected true or false, got "maybe"/,
    )
    expect(() => parseSettingText(key('maxRetries'), '-1')).toThrow(/expected a whole number/)
    expect(() => parseSettingText(key('period'), 'soon')).toThrow(
      /expected a number of seconds, or a time such as .*got "soon"/,
    )
  })
})
