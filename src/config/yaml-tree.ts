/** Parses YAML into a plain tree with the place of each value. Aliases share their node, and merge keys are merged. */
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
import type { TextSpan } from './problem.ts'

export type YamlTree = YamlScalar | YamlMapping | YamlList

export interface YamlScalar extends TextSpan {
  readonly kind: 'scalar'
  readonly value: string | number | boolean | null
  /** The text as it is written, without quotes. */
  readonly sourceText: string
  /** Whether it is written without quotes. */
  readonly isUnquoted: boolean
}

interface YamlEntry {
  readonly key: TextSpan
  readonly value: YamlTree
}

export interface YamlMapping extends TextSpan {
  readonly kind: 'mapping'
  readonly entries: ReadonlyMap<string, YamlEntry>
}

interface YamlList extends TextSpan {
  readonly kind: 'list'
  readonly items: readonly YamlTree[]
}

/** `hidden` is never shown: it was not read, so it might be a secret. */
export type ReportYamlProblem = (at: TextSpan, message: string, hidden?: TextSpan) => void

const MAX_DEPTH = 64
/** Limit of entries that all merge keys together may copy, which stops an exponential file ("billion laughs"). */
const MAX_MERGED = 20_000

/** The tree of a text; undefined if the text is empty. Invalid parts are reported and left out. */
export function parseYamlTree(
  text: string,
  lines: LineCounter,
  report: ReportYamlProblem,
): YamlTree | undefined {
  let document: Document.Parsed
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      // A second document is an error at every level except 'silent'.
      logLevel: 'error',
      stringKeys: false,
    })
  } catch {
    // The parser is recursive, so thousands of brackets exceed its stack.
    report({ start: 0, end: 0 }, 'this cannot be read as YAML: it is nested too deeply')
    return undefined
  }
  for (const { pos, message, code } of document.errors) {
    // Errors of these kinds after the first one only follow from it.
    const again =
      / in YAML stream| at node end/.test(message) && document.errors[0]?.pos[0] !== pos[0]
    if (!again) report({ start: pos[0], end: pos[1] }, `YAML: ${explainYamlError(code, message)}`)
  }
  for (const { pos, code } of document.warnings) {
    const what =
      code === 'TAG_RESOLVE_FAILED' ? "this tag ('!...') is not known" : 'this is not known'
    report({ start: pos[0], end: pos[1] }, what)
  }
  if (!document.contents) return undefined
  return new YamlTreeBuilder(report).build(document.contents, 0)
}

/** The message of the parser without the excerpt at its end, which could be a secret. */
function explainYamlError(code: string, message: string): string {
  if (code === 'MULTIPLE_DOCS') return "there must be one document, but '---' begins another"
  if (message.startsWith('Maximum call stack')) return 'this is nested too deeply'
  const short = message.replace(/:\s*["'`][\s\S]*$/, '').replace(/\s+/g, ' ')
  return short.charAt(0).toLowerCase() + short.slice(1)
}

class YamlTreeBuilder {
  readonly #report: ReportYamlProblem
  readonly #anchors = new Map<string, YamlNode>()
  readonly #built = new Map<YamlNode, YamlTree>()
  readonly #open = new Set<YamlNode>()
  #mergedCount = 0

  constructor(report: ReportYamlProblem) {
    this.#report = report
  }

  /** Builds nodes in the order of the text, so that an alias finds the anchor before it. */
  build(node: YamlNode, depth: number): YamlTree {
    if (isAlias(node)) return this.#resolveAlias(node.source, spanOf(node))
    if ('anchor' in node && node.anchor) this.#anchors.set(node.anchor, node)
    this.#open.add(node)
    const tree = depth > MAX_DEPTH ? this.#reportTooDeep(node) : this.#buildUnaliased(node, depth)
    this.#open.delete(node)
    this.#built.set(node, tree)
    return tree
  }

  #buildUnaliased(node: YamlNode, depth: number): YamlTree {
    if (isMap(node)) return this.#buildMapping(node, depth)
    if (isSeq(node)) {
      const items = node.items.map((item) => this.build(item as YamlNode, depth + 1))
      return { kind: 'list', items, ...spanOf(node) }
    }
    return this.#buildScalar(node)
  }

  #buildScalar(node: YamlNode): YamlScalar {
    const at = spanOf(node)
    if (!isScalar(node)) return emptyScalar(at)
    const { value, source } = node
    const plain = node.type === 'PLAIN' || node.type === undefined
    const known = value === null || ['string', 'number', 'boolean'].includes(typeof value)
    if (!known) this.#report(at, 'only texts, numbers, true, false and null can be read here')
    return {
      kind: 'scalar',
      value: known ? (value as YamlScalar['value']) : null,
      sourceText: source ?? String(value),
      isUnquoted: plain,
      ...at,
    }
  }

  #buildMapping(node: YAMLMap, depth: number): YamlMapping {
    const entries = new Map<string, YamlEntry>()
    const merges: YamlTree[] = []
    for (const pair of node.items as Pair<YamlNode, YamlNode | null>[]) {
      const at = pair.key ? spanOf(pair.key) : spanOf(node)
      const value = pair.value ? this.build(pair.value, depth + 1) : emptyScalar(at)
      if (!isScalar(pair.key) || pair.key.value === null) {
        this.#report(at, 'a key must be a text', value)
        continue
      }
      const { value: named, source, type } = pair.key
      const key = typeof named === 'string' ? named : (source ?? String(named))
      if (key === '<<' && type === 'PLAIN') merges.push(value)
      else if (entries.has(key))
        this.#report(at, `the key '${key.slice(0, 80)}' occurs twice`, value)
      else entries.set(key, { key: at, value })
    }
    for (const merge of merges) this.#merge(entries, merge)
    return { kind: 'mapping', entries, ...spanOf(node) }
  }

  /** Entries that exist already win; of several merged mappings, the first wins. */
  #merge(entries: Map<string, YamlEntry>, from: YamlTree): void {
    const sources = from.kind === 'list' ? from.items : [from]
    for (const source of sources) {
      if (source.kind !== 'mapping') {
        this.#report(from, "'<<' takes a mapping, or a list of mappings")
        return
      }
      this.#mergedCount += source.entries.size + 1
      if (this.#mergedCount > MAX_MERGED) {
        this.#report(from, `'<<' copies more than ${MAX_MERGED} values in this file`)
        return
      }
      for (const [key, entry] of source.entries) if (!entries.has(key)) entries.set(key, entry)
    }
  }

  #resolveAlias(name: string, at: TextSpan): YamlTree {
    const target = this.#anchors.get(name)
    const tree = target && this.#built.get(target)
    if (tree && !(target && this.#open.has(target))) return tree
    const why = target ? 'stands inside its own anchor' : 'has no anchor before it'
    this.#report(
      at,
      `the alias '*${name.slice(0, 80)}' ${why}; a text that begins with '*' needs quotes`,
    )
    return emptyScalar(at)
  }

  #reportTooDeep(node: YamlNode): YamlTree {
    this.#report(spanOf(node), `this is nested more than ${MAX_DEPTH} levels deep`)
    return emptyScalar(spanOf(node))
  }
}

function emptyScalar({ start, end }: TextSpan): YamlScalar {
  return { kind: 'scalar', value: null, sourceText: '', isUnquoted: true, start, end }
}

function spanOf(node: YamlNode): TextSpan {
  const [start, end] = node.range ?? [0, 0]
  return { start, end: Math.max(start, end) }
}
