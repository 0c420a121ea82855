/**
 * Reads the heads of responses on their way to undici's parser, and changes what that parser refuses although its meaning is
 * clear (RFC 9110 section 15.2, RFC 9112 sections 6.3 and 9.6):
 *
 * - `100 Continue` to a request that did not ask for it is left out, whatever its header fields are;
 * - `Content-Length` that is repeated with one value, in several fields or as `5, 5`, becomes one field;
 * - informational responses lose `close`, `Content-Length` and `Transfer-Encoding`, which have no meaning there;
 * - 101 that names the protocol in `Upgrade` but lacks `Connection: upgrade` gets it.
 *
 * The trailers of a chunked body go through `ChunkedBodyFilter`. A status line is held until it is complete, because undici
 * keeps only the last part of a reason phrase that comes in parts.
 *
 * The filter refuses what has no safe meaning: 101 to a request that did not ask for it, and too many informational responses.
 * Everything else goes to the parser unchanged and at once, and the parser judges it.
 */
import { ChunkedBodyFilter, matchesPrefix } from './chunked-body-filter.ts'

/** Informational responses that one request may get. A server may send one every few seconds during a long request. */
export const MAX_INFORMATIONAL_RESPONSES = 100

/** Bytes that may be left out of the responses to one request. Nothing else counts them. */
const MAX_DROPPED_HEAD_BYTES = 65_536

/** A longer line is never one of those that are changed. */
const MAX_CHANGED_LINE = 256

/** A longer status line may lose the beginning of its reason phrase. */
const MAX_STATUS_LINE = 8_192

const LF = 10
const CR = 13
const COMMA = 44
const NOTHING = Buffer.alloc(0)
const LENGTH = 'content-length:'
const CODING = 'transfer-encoding:'
const UPGRADE = Buffer.from('connection: upgrade\r\n')

/** The modes: what is done with the next line. */
const STATUS_LINE = 0
/** Fields of a final response, or of an informational one without a special meaning. */
const FIELDS = 1
/** 100 Continue. */
const DROPPED_RESPONSE = 2
/** 101 Switching Protocols. */
const SWITCHING = 3
/** The head has ended, and a chunked body follows. */
const BODY = 4

/** Filters the heads of one connection, which has one request under way at a time. */
export class ResponseHeadFilter {
  /** Whether the next bytes must be filtered: from the request to the end of the final head, or of the chunked body. */
  isExpecting = false
  readonly #body = new ChunkedBodyFilter()
  #mode = STATUS_LINE
  #status = 0
  #request = ''
  #informational = 0
  #droppedBytes = 0
  /** The beginning of a line that may have to be changed, and whose rest has not come yet. */
  #partialLine: Buffer | undefined
  /** The beginning of the present line was passed on or left out already, and its rest goes the same way. */
  #isInLine = false
  /** The value of the `Content-Length` that was passed on. */
  #length: string | undefined
  #isChunked = false
  #hasUpgrade = false
  #hasConnection = false

  /** Called when a request is written, with its head: a response follows. */
  startRequest(request: string): void {
    // After the response to CONNECT a tunnel begins at once, whatever the status is.
    this.isExpecting = !request.startsWith('CONNECT ')
    this.#request = request
    this.#mode = STATUS_LINE
    this.#informational = 0
    this.#droppedBytes = 0
    this.#partialLine = undefined
    this.#isInLine = false
    this.#length = undefined
  }

  /**
   * Filters the next bytes, while `isExpecting`.
   * @returns the bytes for the parser: nearly always the chunk itself
   * @throws an Error that says why the response is refused
   */
  filter(chunk: Buffer): Buffer {
    if (this.#mode === BODY) return this.#filterBody(chunk)
    if (this.#mode === STATUS_LINE && this.#partialLine === undefined && needsNoChange(chunk)) {
      this.isExpecting = false
      return chunk
    }
    const data = this.#partialLine ? Buffer.concat([this.#partialLine, chunk]) : chunk
    this.#partialLine = undefined
    let kept: Buffer[] | undefined
    // Bytes before this index are dealt with.
    let from = 0
    let at = 0
    while (this.isExpecting && this.#mode !== BODY) {
      const end = data.indexOf(LF, at) + 1
      if (end === 0) {
        const rest = this.#filterPartialLine(data, at)
        if (rest === data.length && !kept) return data
        kept ??= []
        kept.push(data.subarray(from, rest))
        return joinBuffers(kept)
      }
      const change = this.#isInLine ? this.#restOfLine(end - at) : this.#filterLine(data, at, end)
      this.#isInLine = false
      if (change !== undefined) {
        kept ??= []
        if (at > from) kept.push(data.subarray(from, at))
        if (change.length > 0) kept.push(change)
        from = end
      }
      at = end
    }
    if (this.#mode === BODY) {
      const rest = data.subarray(at)
      const walked = this.#filterBody(rest)
      if (walked !== rest) {
        kept ??= []
        kept.push(data.subarray(from, at), walked)
        return joinBuffers(kept)
      }
    }
    if (!kept) return data
    kept.push(data.subarray(from))
    return joinBuffers(kept)
  }

  #filterBody(chunk: Buffer): Buffer {
    const walked = this.#body.filter(chunk)
    this.isExpecting = !this.#body.isDone
    return walked
  }

  /** The rest of a line whose begin has been decided about. */
  #restOfLine(length: number): Buffer | undefined {
    if (this.#mode !== DROPPED_RESPONSE) return undefined
    this.#dropBytes(length)
    return NOTHING
  }

  /**
   * A line whose end has not come.
   * @returns up to where the bytes go on now
   */
  #filterPartialLine(data: Buffer, at: number): number {
    const length = data.length - at
    if (length === 0) return at
    // A line that has only its CR is the last one of the head as soon as its LF comes.
    if (!this.#isInLine && length === 1 && data[at] === CR) {
      this.#partialLine = data.subarray(at)
      return at
    }
    if (this.#mode === DROPPED_RESPONSE) {
      this.#dropBytes(length)
      this.#isInLine = true
      return at
    }
    if (this.#isInLine) return data.length
    const mayChange =
      this.#mode === STATUS_LINE
        ? length <= MAX_STATUS_LINE && matchesPrefix(data, at, data.length, 'http/1.')
        : length <= MAX_CHANGED_LINE &&
          (this.#status < 200 ||
            matchesPrefix(data, at, data.length, LENGTH) ||
            matchesPrefix(data, at, data.length, CODING))
    if (mayChange) {
      this.#partialLine = data.subarray(at)
      return at
    }
    if (this.#mode === STATUS_LINE) this.isExpecting = false
    this.#isInLine = true
    return data.length
  }

  /** @returns what takes the place of the line, or undefined for the line as it is */
  #filterLine(data: Buffer, at: number, end: number): Buffer | undefined {
    if (this.#mode === STATUS_LINE) return this.#statusLine(data, at, end)
    const length = end - at
    const isLast = length === 1 || (length === 2 && data[at] === CR)
    if (this.#mode === DROPPED_RESPONSE) {
      this.#dropBytes(length)
      if (isLast) this.#mode = STATUS_LINE
      return NOTHING
    }
    if (isLast) return this.#endOfHead(data, at, end)
    if (this.#mode === SWITCHING) this.#readSwitchingField(data, at, end)
    if (this.#status < 200) return this.#informationalField(data, at, end)
    if (((data[at] as number) | 32) === 99 && matchesPrefix(data, at, end, LENGTH)) {
      return this.#contentLength(data, at, end)
    } else if (((data[at] as number) | 32) === 116 && matchesPrefix(data, at, end, CODING)) {
      // The parser, too, goes by the last coding of the last field.
      this.#isChunked = CHUNKED.test(data.toString('latin1', at + CODING.length, end))
    }
    return undefined
  }

  #statusLine(data: Buffer, at: number, end: number): Buffer | undefined {
    // The parser skips empty lines before it.
    if (data[at] === CR || data[at] === LF) return undefined
    const status = parseStatusCode(data, at, end)
    if (status === undefined) {
      // Not an answer of HTTP/1: the parser says what is wrong with it.
      this.isExpecting = false
      return undefined
    }
    this.#status = status
    if (status < 200 && ++this.#informational > MAX_INFORMATIONAL_RESPONSES) {
      throw new Error(
        `more than ${MAX_INFORMATIONAL_RESPONSES} informational answers to one request`,
      )
    }
    if (status === 100) {
      this.#mode = DROPPED_RESPONSE
      this.#dropBytes(end - at)
      return NOTHING
    }
    this.#mode = status === 101 ? SWITCHING : FIELDS
    this.#hasUpgrade = false
    this.#hasConnection = false
    this.#isChunked = false
    this.#length = undefined
    return undefined
  }

  #endOfHead(data: Buffer, at: number, end: number): Buffer | undefined {
    const wasSwitching = this.#mode === SWITCHING
    this.#mode = STATUS_LINE
    if (!wasSwitching) {
      if (this.#status >= 200) this.#endFinalHead()
      return undefined
    }
    const isAsked = /\r\nupgrade:/i.test(this.#request)
    if (!isAsked) throw new Error('101 Switching Protocols, and nobody asked for it')
    if (!this.#hasUpgrade) throw new Error('101 Switching Protocols without an Upgrade field')
    this.isExpecting = false
    if (this.#hasConnection) return undefined
    return Buffer.concat([UPGRADE, data.subarray(at, end)])
  }

  #endFinalHead(): void {
    const status = this.#status
    const hasBody = status !== 204 && status !== 304 && !this.#request.startsWith('HEAD ')
    this.isExpecting = this.#isChunked && hasBody
    if (!this.isExpecting) return
    this.#mode = BODY
    this.#body.reset()
  }

  #readSwitchingField(data: Buffer, at: number, end: number): void {
    const line = data.toString('latin1', at, end).toLowerCase()
    if (line.startsWith('upgrade:')) this.#hasUpgrade = true
    if (/^connection:(.*,)?[ \t]*upgrade[ \t]*(,.*)?\r?\n$/.test(line)) this.#hasConnection = true
  }

  /** The parser would forbid the final answer for `close`, and take a frame here for the frame of that answer. */
  #informationalField(data: Buffer, at: number, end: number): Buffer | undefined {
    const line = data.toString('latin1', at, end)
    const [, name = '', value = ''] = /^([\w-]+):(.*)/.exec(line) ?? []
    let kept: string | undefined
    if (/^(proxy-)?connection$/i.test(name)) {
      const options = value.split(',').map((option) => option.trim())
      const others = options.filter((option) => option.toLowerCase() !== 'close')
      if (others.length === options.length) return undefined
      kept = others.join(', ')
    } else if (!/^(content-length|transfer-encoding)$/i.test(name)) return undefined
    this.#dropBytes(end - at)
    return kept ? Buffer.from(`${name}: ${kept}\r\n`, 'latin1') : NOTHING
  }

  /** The first length is let through as one value; each further one is left out if it says the same. */
  #contentLength(data: Buffer, at: number, end: number): Buffer | undefined {
    const name = at + LENGTH.length
    const values = data
      .toString('latin1', name, end)
      .split(',')
      .map((value) => value.replace(/^[ \t]+|[ \t\r\n]+$/g, ''))
    const value = values[0] as string
    // Two lengths, or none that can be one: the parser refuses it.
    if (!/^\d+$/.test(value) || values.some((other) => other !== value)) return undefined
    if (this.#length !== undefined) return this.#length === value ? NOTHING : undefined
    this.#length = value
    if (values.length === 1) return undefined
    return Buffer.from(`${data.toString('latin1', at, name)} ${value}\r\n`, 'latin1')
  }

  #dropBytes(bytes: number): void {
    this.#droppedBytes += bytes
    if (this.#droppedBytes > MAX_DROPPED_HEAD_BYTES) {
      throw new Error(`more than ${MAX_DROPPED_HEAD_BYTES} bytes without meaning before one answer`)
    }
  }
}

/**
 * Whether the chunk begins with the whole head of a final answer that is not chunked and has at most one `Content-Length`, with one
 * value: nearly all do, and a look at each byte once is the least that it costs.
 */
function needsNoChange(data: Buffer): boolean {
  const { length } = data
  const status = parseStatusCode(data, 0, length)
  if (status === undefined || status < 200) return false
  let lengths = 0
  for (let index = 12; index + 1 < length; index++) {
    if (data[index] !== LF) continue
    const next = data[index + 1] as number
    if (next === CR) return data[index + 2] === LF
    if (next === LF) return true
    if ((next | 32) === 116 && matchesPrefix(data, index + 1, length, CODING)) return false
    if ((next | 32) === 99 && matchesPrefix(data, index + 1, length, LENGTH)) {
      if (++lengths > 1) return false
      for (index += LENGTH.length; index + 1 < length && data[index + 1] !== LF; index++) {
        if (data[index + 1] === COMMA) return false
      }
    }
  }
  return false
}

const CHUNKED = /(^|,)[ \t]*chunked[ \t\r\n]*$/i

function joinBuffers(kept: Buffer[]): Buffer {
  return kept.length === 1 ? (kept[0] as Buffer) : Buffer.concat(kept)
}

/** `HTTP/1.x nnn`, and then a space or the end of the line. */
function parseStatusCode(data: Buffer, at: number, end: number): number | undefined {
  if (end - at < 13 || !matchesPrefix(data, at, end, 'http/1.')) return undefined
  if (data[at + 8] !== 32) return undefined
  let status = 0
  for (let index = at + 9; index < at + 12; index++) {
    const digit = (data[index] as number) - 48
    if (digit < 0 || digit > 9) return undefined
    status = status * 10 + digit
  }
  const after = data[at + 12]
  return after === 32 || after === CR || after === LF ? status : undefined
}
