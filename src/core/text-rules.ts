/** Rules of options that are texts: secrets, and lists of texts. Pure. */
import { type Rule, rule } from './options.ts'

/** A list of texts. Each text has a rule of its own, so that a file reports the item that is wrong. */
export function textList(
  range: string,
  each: Rule<string>,
  { initial, minItems = 0 }: { initial?: readonly string[]; minItems?: number } = {},
): Rule<readonly string[]> {
  const parse = (value: unknown): readonly string[] | undefined => {
    if (!Array.isArray(value) || value.length < minItems) return undefined
    return value.every((one) => each.parse(one) !== undefined) ? [...value] : undefined
  }
  return rule<readonly string[]>(range, initial, parse, { is: 'list', of: each, minItems })
}

/** A text that no message shows. */
export function secretText(range: string, fits: (text: string) => boolean): Rule<string> {
  const parse = (value: unknown): string | undefined =>
    typeof value === 'string' && fits(value) ? value : undefined
  return rule(range, undefined, parse, { is: 'text', secret: true })
}

/** Visible ASCII without blanks: what a header field can carry as a token. */
export function isVisibleAscii(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text)
}
