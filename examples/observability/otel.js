// OpenTelemetry: a span for each request, one below it for each attempt, and one for each start of an instance, made
// from what manyhost says on `node:diagnostics_channel` and by its events. Copy `observe`; what follows it is a show.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { Session } from 'manyhost'
import { faults, inProcess } from 'manyhost/testing'

/** Makes spans of what a session does, until the function that it gives is called. */
export function observe(session, tracer) {
  const requests = new WeakMap()
  const starts = new Map()
  const failed = (span, message) => span.setStatus({ code: SpanStatusCode.ERROR, message })

  const onRequest = ({ service, exchange }) => {
    const { method, path, headers, id } = exchange.request
    const span = tracer.startSpan(
      `${method} ${service}`,
      {
        kind: SpanKind.CLIENT,
        startTime: wall(exchange.startedAt),
        attributes: { 'http.request.method': method, 'url.path': path, 'manyhost.request.id': id },
      },
      parentOf(headers),
    )
    // The instance goes on with the trace: it gets this span for its parent.
    write(headers, 'traceparent', span.spanContext())
    requests.set(exchange, { span, attempts: [] })
  }

  const onAttempt = ({ exchange, attempt }) => {
    const request = requests.get(exchange)
    if (!request) return
    const attributes = {
      'manyhost.attempt': attempt.number,
      'manyhost.instance': attempt.target.id,
      'manyhost.queue.wait_ms': attempt.startedAt - attempt.joinedAt,
    }
    const startTime = wall(attempt.startedAt)
    const below = trace.setSpan(ROOT_CONTEXT, request.span)
    const span = tracer.startSpan(`attempt ${attempt.number}`, { startTime, attributes }, below)
    request.attempts.push({ span, attempt })
  }

  const onEnd = ({ exchange, outcome, status }) => {
    const request = requests.get(exchange)
    if (!request) return
    for (const { span, attempt } of request.attempts) {
      // Those that failed are in the reports, with their durations.
      const report = exchange.reports?.find((one) => one.attempt === attempt.number)
      if (report?.reason) failed(span, report.reason)
      span.end(report ? wall(attempt.startedAt + report.duration) : undefined)
    }
    request.span.setAttributes({ 'http.response.status_code': status, 'manyhost.outcome': outcome })
    if (outcome !== 'answered') failed(request.span, outcome)
    request.span.end()
  }

  const channels = [
    ['manyhost:request:start', onRequest],
    ['manyhost:attempt:start', onAttempt],
    ['manyhost:request:end', onEnd],
  ]
  for (const [name, listener] of channels) subscribe(name, listener)
  const off = session.on('instance', ({ service, instance, state, from, reason, at }) => {
    if (state === 'starting') {
      const attributes = { 'manyhost.service': service, 'manyhost.instance': instance }
      starts.set(instance, tracer.startSpan(`start ${service}`, { startTime: at, attributes }))
    } else if (from === 'starting') {
      const span = starts.get(instance)
      starts.delete(instance)
      if (state !== 'ready') failed(span, reason ?? state)
      span?.end(at)
    }
  })
  return () => {
    off()
    for (const [name, listener] of channels) unsubscribe(name, listener)
  }
}

/** manyhost's times are those of `performance.now()`. */
function wall(at) {
  return performance.timeOrigin + at
}

/** W3C Trace Context: `traceparent: 00-<trace>-<span>-<flags>`. */
function parentOf(headers) {
  const at = headers.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === 'traceparent')
  const [, traceId, spanId, flags] =
    /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})/.exec(headers[at + 1] ?? '') ?? []
  if (at < 0 || !traceId) return ROOT_CONTEXT
  const traceFlags = Number.parseInt(flags, 16)
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true })
}

/** Headers are names and values in turn. */
function write(headers, name, { traceId, spanId, traceFlags }) {
  const value = `00-${traceId}-${spanId}-0${traceFlags}`
  const at = headers.findIndex((one, i) => i % 2 === 0 && one.toLowerCase() === name)
  if (at < 0) headers.unshift(name, value)
  else headers[at + 1] = value
}

// The show: three requests to a service whose instances fail on purpose, within a trace of the caller's own.
const exporter = new InMemorySpanExporter()
const spanProcessors = [new SimpleSpanProcessor(exporter)]
const tracer = new BasicTracerProvider({ spanProcessors }).getTracer('manyhost-example')

const server = inProcess((request, response) => response.end(request.headers.traceparent))
const provider = faults(server, { seed: 21, abort: { percentage: 50, after: 'headers' } })
const session = new Session({ provider })
const end = observe(session, tracer)
session.startup({ url: 'http://flaky', initSize: 2, maxAttempts: 10 })

const caller = '4bf92f3577b34da6a3ce929d0e0e4736'
const headers = { traceparent: `00-${caller}-00f067aa0ba902b7-01` }
for (let i = 0; i < 3; i++) {
  const response = await session.client().get(`http://flaky/${i}`, { headers })
  const seen = await response.text()
  console.log(`the instance's trace is the caller's: ${seen.includes(caller)}`)
}
await session.close()
end()

const spans = exporter.getFinishedSpans()
const line = ({ name, attributes, status, duration: [s, ns] }) =>
  `${name} ${attributes['manyhost.instance'] ?? attributes['url.path']} ${(s * 1e3 + ns / 1e6).toFixed(1)} ms ${status.message ?? ''}`
for (const span of spans.filter(({ name }) => !name.startsWith('attempt'))) {
  console.log(line(span).trimEnd())
  const id = span.spanContext().spanId
  const below = spans.filter(({ parentSpanContext }) => parentSpanContext?.spanId === id)
  for (const one of below) console.log(`  ${line(one).trimEnd()}`)
}
