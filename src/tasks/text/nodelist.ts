/** Lists of machines in the short form of Slurm and HyperShell: `a[01-03,7].x,b` is a01.x, a02.x, a03.x, a7.x, b. */
import { ManyhostError } from '../../core/errors.ts'

/** Nobody has more machines: `a[1-999999999]` is a mistake. */
const MAX_NODES = 100_000

/**
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function expandNodelist(text: string): string[] {
  const nodes: string[] = []
  for (const item of splitOutsideBrackets(text)) {
    const name = item.trim()
    if (name === '') throw invalid(text, 'a name is empty: commas must stand between names')
    for (const node of expandBrackets(name, text)) {
      nodes.push(node)
      if (nodes.length > MAX_NODES) throw invalid(text, `it has more than ${MAX_NODES} names`)
    }
  }
  return nodes
}

/** Splits at commas that are not in brackets. */
function splitOutsideBrackets(text: string): string[] {
  const items: string[] = []
  let depth = 0
  let from = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '[') depth++
    if (text[i] === ']') depth--
    if (depth < 0 || depth > 1) throw invalid(text, `brackets do not match at character ${i + 1}`)
    if (text[i] !== ',' || depth > 0) continue
    items.push(text.slice(from, i))
    from = i + 1
  }
  if (depth > 0) throw invalid(text, 'a bracket is not closed')
  return [...items, text.slice(from)]
}

/** Expands the brackets from left to right: `r[1-2]n[1-2]` is four names. */
function* expandBrackets(name: string, text: string): Generator<string> {
  const open = name.indexOf('[')
  if (open < 0) {
    if (!/^[\w.@:-]+$/.test(name)) throw invalid(text, `'${name}' is not the name of a machine`)
    yield name
    return
  }
  const close = name.indexOf(']', open)
  for (const part of name.slice(open + 1, close).split(',')) {
    for (const number of expandRange(part.trim(), text)) {
      yield* expandBrackets(`${name.slice(0, open)}${number}${name.slice(close + 1)}`, text)
    }
  }
}

function* expandRange(part: string, text: string): Generator<string> {
  const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part)
  if (!match)
    throw invalid(text, `a bracket must have numbers like 7 or ranges like 01-12, got '${part}'`)
  const [first, last] = [match[1] as string, match[2] ?? (match[1] as string)]
  if (Number(first) > Number(last))
    throw invalid(text, `the range ${part} must begin with its smaller number`)
  // A first number with leading zeros gives all numbers its width.
  const width = first.startsWith('0') ? first.length : 0
  for (let n = Number(first); n <= Number(last); n++) yield String(n).padStart(width, '0')
}

function invalid(text: string, why: string): ManyhostError {
  const shown = text.length > 100 ? `${text.slice(0, 97)}...` : text
  return new ManyhostError('MANYHOST_INVALID_OPTION', `nodelist ${JSON.stringify(shown)}: ${why}`)
}
