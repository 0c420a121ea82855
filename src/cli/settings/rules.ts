/** How the value of an option is read from a file, from a variable, and from a word: each as the command line reads it. */
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

/** How a key of a file is read; what the command line takes is what a file takes. */
export function ruleForOption(option: CliOption): Rule<unknown> {
  const { required, optional } = new Parsed(option.flags)
  const word = `<${/[<[](.*?)(?:\.\.\.)?[>\]]/.exec(option.flags)?.[1]}>`
  const { choices, parse, isRepeatable: many, exposureReason: exposes } = option
  if (choices) {
    const range = choices.map((name) => `'${name}'`).join(', ')
    return rule(range, undefined, identity, { is: 'choice', names: choices })
  }
  if (many) {
    return rule(`a list of ${word}`, undefined, identity, {
      is: 'list',
      of: rule(word, '', identity, TEXT),
    })
  }
  if (!required && !optional) return rule('true or false', undefined, identity, FLAG)
  if (optional) return rule(`true or ${word}`, undefined, identity, eitherForm(FLAG, TEXT))
  const form = exposes ? { ...TEXT, secret: true } : eitherForm(NUMBER, TEXT)
  return rule(word, undefined, parse ? (value) => parseOptionValue(parse, value) : identity, form)
}

function eitherForm(...forms: Form[]): Form {
  return { is: 'either', forms }
}

function identity(value: unknown): unknown {
  return value
}

/** Tells what the command line would be told. */
function parseOptionValue(parse: NonNullable<CliOption['parse']>, value: unknown): unknown {
  try {
    return parse(String(value))
  } catch (error) {
    const why = describeError(error)
    const got = why.includes(', got ') ? '' : `, got ${JSON.stringify(value)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', `${why}${got}`)
  }
}

/** What a file or the environment says, as the command gets it from the command line. */
export function toOptionValue({ option }: SettingsValueRule, said: unknown): unknown {
  if (typeof said === 'boolean' || option.isRepeatable) return said
  return option.parse ? option.parse(String(said)) : String(said)
}

/** Why what is written there must not be seen; what stands for a secret may. */
export function findExposure({ option }: SettingsValueRule, written: string): string | undefined {
  return option.exposureReason?.(written.replace(/\$\{[^{}]*\}/g, ''))
}

/** What a variable of the environment, or a word of `config set`, says. @throws Error with what was expected */
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
