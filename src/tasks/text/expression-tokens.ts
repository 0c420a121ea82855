/** Splits an expression into numbers, texts, names and signs, as Python has them. */

const TOKEN =
  /\s*(?:(0[xX][\da-fA-F]+|0[bB][01]+|0[oO][0-7]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|([rR]?)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([A-Za-z_]\w*)|(\*\*|\/\/|>>>|<<|>>|[=!]==?|<=|>=|&&|\|\||[-+*/%&|^~<>!?:.,()[\]]))/sy

export interface ExpressionToken {
  readonly is: 'number' | 'text' | 'name' | 'sign' | 'end'
  readonly text: string
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\u0007',
  '0': '\0',
  '\n': '',
}

/** The last token is the end. @throws Error where no token can begin */
export function tokenizeExpression(text: string): ExpressionToken[] {
  const tokens: ExpressionToken[] = []
  const end = text.trimEnd().length
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < end) {
    const from = TOKEN.lastIndex
    const match = TOKEN.exec(text)
    if (!match) throw new Error(`Unexpected ${JSON.stringify(text.slice(from, from + 20).trim())}`)
    const [, number, raw, quoted, name, sign = ''] = match
    if (number !== undefined) tokens.push({ is: 'number', text: number })
    else if (quoted !== undefined)
      tokens.push({ is: 'text', text: unquoteText(quoted, raw !== '') })
    else if (name !== undefined) tokens.push({ is: 'name', text: name })
    else tokens.push({ is: 'sign', text: sign })
  }
  return [...tokens, { is: 'end', text: '' }]
}

export function parseNumber(text: string): number | bigint {
  const plain = text.replaceAll('_', '')
  const number = Number(plain)
  return /^(?:\d+|0[xXbBoO].*)$/.test(plain) && !Number.isSafeInteger(number)
    ? BigInt(plain)
    : number
}

function unquoteText(quoted: string, isRaw: boolean): string {
  const inside = quoted.slice(1, -1)
  if (isRaw) return inside
  return inside.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|(.))/gs,
    (whole, two?: string, four?: string, one?: string) => {
      const code = two ?? four
      if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16))
      // As in Python, a backslash before any other character stays.
      if (one === '\\' || one === "'" || one === '"') return one
      return ESCAPES[one ?? ''] ?? whole
    },
  )
}
