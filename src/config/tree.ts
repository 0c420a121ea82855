/** YAML text to a plain tree that knows where each value stands. Aliases share their node, merge keys are merged. */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Pair,
  parseDocument,
  type YAMLMap,
  type Node as YamlNode,
} from 'yaml'
import type { Span } from './problem.ts'

export type Tree = Scalar | Mapping | List

export interface Scalar extends Span {
  readonly kind: 'scalar'
  readonly value: string | number | boolean | null
  /** As it is written, without quotes. */
  readonly written: string
  /** Not in quotes. */
  readonly plain: boolean
}

interface Entry {
  readonly key: Span
  readonly value: Tree
}

export interface Mapping extends Span {
  readonly kind: 'mapping'
  readonly entries: ReadonlyMap<string, Entry>
}

interface List extends Span {
  readonly kind: 'list'
  readonly items: readonly Tree[]
}

/** `hidden` is shown to nobody: it was not read, so nobody knows whether it is secret. */
export type Report = (at: Span, message: string, hidden?: Span) => void

const DEEPEST = 64
/** Entries that merge keys may copy, all together: a laugh of one alias a line stays short. */
const MERGED = 20_000

/** The tree of a text, or undefined when there is nothing in it. What is wrong is reported, and left out. */
export function grow(text: string, lines: LineCounter, report: Report): Tree | undefined {
  let document: Document.Parsed
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      // A document too many is an error of every level but 'silent'.
      logLevel: 'error',
      stringKeys: false,
    })
  } catch {
    // The parser is recursive: thousands of brackets end its stack.
    report({ start: 0, end: 0 }, 'this cannot be read as YAML: it is nested too deeply')
    return undefined
  }
  for (const { pos, message, code } of document.errors) {
    // After the first, the parser is only out of step.
    const again =
      / in YAML stream| at node end/.test(message) && document.errors[0]?.pos[0] !== pos[0]
    if (!again) report({ start: pos[0], end: pos[1] }, `YAML: ${explain(code, message)}`)
  }
  for (const { pos, code } of document.warnings) {
    const what =
      code === 'TAG_RESOLVE_FAILED' ? "this tag ('!...') is not known" : 'this is not known'
    report({ start: pos[0], end: pos[1] }, what)
  }
  if (!document.contents) return undefined
  return new Grower(report).grow(document.contents, 0)
}

/** Without the excerpts that some messages end with: they could be secret. */
function explain(code: string, message: string): string {
  if (code === 'MULTIPLE_DOCS') return "there must be one document, but '---' begins another"
  if (message.startsWith('Maximum call stack')) return 'this is nested too deeply'
  const short = message.replace(/:\s*["'`][\s\S]*$/, '').replace(/\s+/g, ' ')
  return short.charAt(0).toLowerCase() + short.slice(1)
}

class Grower {
  readonly #report: Report
  readonly #anchors = new Map<string, YamlNode>()
  readonly #grown = new Map<YamlNode, Tree>()
  readonly #open = new Set<YamlNode>()
  #merged = 0

  constructor(report: Report) {
    this.#report = report
  }

  /** In the order of the text, so that an alias finds the anchor before it. */
  grow(node: YamlNode, depth: number): Tree {
    if (isAlias(node)) return this.#alias(node.source, span(node))
    if ('anchor' in node && node.anchor) this.#anchors.set(node.anchor, node)
    this.#open.add(node)
    const tree = depth > DEEPEST ? this.#tooDeep(node) : this.#plain(node, depth)
    this.#open.delete(node)
    this.#grown.set(node, tree)
    return tree
  }

  #plain(node: YamlNode, depth: number): Tree {
    if (isMap(node)) return this.#mapping(node, depth)
    if (isSeq(node)) {
      const items = node.items.map((item) => this.grow(item as YamlNode, depth + 1))
      return { kind: 'list', items, ...span(node) }
    }
    return this.#scalar(node)
  }

  #scalar(node: YamlNode): Scalar {
    const at = span(node)
    if (!isScalar(node)) return nothing(at)
    const { value, source } = node
    const plain = node.type === 'PLAIN' || node.type === undefined
    const known = value === null || ['string', 'number', 'boolean'].includes(typeof value)
    if (!known) this.#report(at, 'only texts, numbers, true, false and null can be read here')
    return {
      kind: 'scalar',
      value: known ? (value as Scalar['value']) : null,
      written: source ?? String(value),
      plain,
      ...at,
    }
  }

  #mapping(node: YAMLMap, depth: number): Mapping {
    const entries = new Map<string, Entry>()
    const merges: Tree[] = []
    for (const pair of node.items as Pair<YamlNode, YamlNode | null>[]) {
      const at = pair.key ? span(pair.key) : span(node)
      const value = pair.value ? this.grow(pair.value, depth + 1) : nothing(at)
      if (!isScalar(pair.key) || pair.key.value === null) {
        this.#report(at, 'a key must be a text', value)
        continue
      }
      const { value: named, source, type } = pair.key
      const key = typeof named === 'string' ? named : (source ?? String(named))
      if (key === '<<' && type === 'PLAIN') merges.push(value)
      else if (entries.has(key))
        this.#report(at, `the key '${key.slice(0, 80)}' is there twice`, value)
      else entries.set(key, { key: at, value })
    }
    for (const merge of merges) this.#merge(entries, merge)
    return { kind: 'mapping', entries, ...span(node) }
  }

  /** What is there already wins, and of several mappings the first. */
  #merge(entries: Map<string, Entry>, from: Tree): void {
    const sources = from.kind === 'list' ? from.items : [from]
    for (const source of sources) {
      if (source.kind !== 'mapping') {
        this.#report(from, "'<<' takes a mapping, or a list of mappings")
        return
      }
      this.#merged += source.entries.size + 1
      if (this.#merged > MERGED) {
        this.#report(from, `'<<' copies more than ${MERGED} values in this file`)
        return
      }
      for (const [key, entry] of source.entries) if (!entries.has(key)) entries.set(key, entry)
    }
  }

  #alias(name: string, at: Span): Tree {
    const target = this.#anchors.get(name)
    const tree = target && this.#grown.get(target)
    if (tree && !(target && this.#open.has(target))) return tree
    const why = target ? 'stands inside its own anchor' : 'has no anchor before it'
    this.#report(
      at,
      `the alias '*${name.slice(0, 80)}' ${why}; a text that begins with '*' needs quotes`,
    )
    return nothing(at)
  }

  #tooDeep(node: YamlNode): Tree {
    this.#report(span(node), `this is nested more than ${DEEPEST} levels deep`)
    return nothing(span(node))
  }
}

function nothing({ start, end }: Span): Scalar {
  return { kind: 'scalar', value: null, written: '', plain: true, start, end }
}

function span(node: YamlNode): Span {
  const [start, end] = node.range ?? [0, 0]
  return { start, end: Math.max(start, end) }
}
