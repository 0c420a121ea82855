/** Parses option values of files, variables and words in the same way as the command line does. */
import { Option as Parsed } from 'commander'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { type Form, type Rule, rule } from '../../core/options.ts'
import type { CliOption } from '../command.ts'

interface SettingsValueRule {
  readonly option: CliOption
  readonly rule: Rule<unknown>
}

const TEXT = { is: 'text' } as const
const FLAG = { is: 'flag' } as const
const NUMBER = { is: 'number', min: Number.NEGATIVE_INFINITY } as const

/** The rule of a key in a file. A file takes the same values as the command line. */
export function ruleForOption(option: CliOption): Rule<unknown> {
  const { required, optional } = new Parsed(option.flags)
  const word = `<${/[<[](.*?)(?:\.\.\.)?[>\]]/.exec(option.flags)?.[1]}>`
  const { choices, parse, isRepeatable, exposureReason } = option
  if (choices) {
    const range = choices.map((name) => `'${name}'`).join(', ')
    return rule(range, undefined, identity, { is: 'choice', names: choices })
  }
  if (isRepeatable) {
    return rule(`a list of ${word}`, undefined, identity, {
      is: 'list',
      of: rule(word, '', identity, TEXT),
    })
  }
  if (!required && !optional) return rule('true or false', undefined, identity, FLAG)
  if (optional) return rule(`true or ${word}`, undefined, identity, eitherForm(FLAG, TEXT))
  const form = exposureReason ? { ...TEXT, secret: true } : eitherForm(NUMBER, TEXT)
  return rule(word, undefined, parse ? (value) => parseOptionValue(parse, value) : identity, form)
}

function eitherForm(...forms: Form[]): Form {
  return { is: 'either', forms }
}

function identity(value: unknown): unknown {
  return value
}

/** @throws ManyhostError with the message that the command line would give */
function parseOptionValue(parse: NonNullable<CliOption['parse']>, value: unknown): unknown {
  try {
    return parse(String(value))
  } catch (error) {
    const reason = describeError(error)
    const got = reason.includes(', got ') ? '' : `, got ${JSON.stringify(value)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', `${reason}${got}`)
  }
}

/** Turns a value of a file or of the environment into the value that the command gets. */
export function toOptionValue({ option }: SettingsValueRule, value: unknown): unknown {
  if (typeof value === 'boolean' || option.isRepeatable) return value
  return option.parse ? option.parse(String(value)) : String(value)
}

/** Says why a written value must not be seen. A `${...}` that stands for a secret can be seen. */
export function findExposure({ option }: SettingsValueRule, written: string): string | undefined {
  return option.exposureReason?.(written.replace(/\$\{[^{}]*\}/g, ''))
}

/** Parses an environment variable or a word of `config set`. @throws Error with what was expected */
export function parseSettingText({ option, rule }: SettingsValueRule, text: string): unknown {
  const { form } = rule
  if (option.isRepeatable) return text.split(/\s+/).filter((word) => word !== '')
  const isFlag = form?.is === 'flag' || (form?.is === 'either' && form.forms.includes(FLAG))
  if (isFlag && /^(true|false|1|0)$/i.test(text)) return /^(true|1)$/i.test(text)
  const value =
    form?.is === 'either' && form.forms.includes(NUMBER) && /^-?\d+(\.\d+)?$/.test(text)
      ? Number(text)
      : text
  const isWrong = form?.is === 'flag' || (option.choices && !option.choices.includes(text))
  if (isWrong) throw new Error(`expected ${rule.range}, got ${JSON.stringify(text)}`)
  rule.parse(value)
  return value
}
