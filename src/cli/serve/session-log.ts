/** The session's events, as lines of the log. */
import type { Logger } from 'pino'
import type { InstanceEvent, InstanceState } from '../../core/events.ts'
import type { SessionCore } from '../../session/session.ts'

type Level = 'debug' | 'info' | 'warn' | 'error'

const LEVELS: Readonly<Record<InstanceState, Level>> = {
  pending: 'debug',
  starting: 'debug',
  ready: 'info',
  unready: 'warn',
  draining: 'debug',
  stopped: 'info',
  failed: 'warn',
}

export function logSessionEvents(session: SessionCore, logger: Logger): void {
  session.on('instance', (event) => {
    // One that did not come up is told of as an error already.
    const { state, from } = event
    const isTold = state === 'failed' && (from === 'starting' || from === 'pending')
    if (!isTold) logInstance(event, logger)
  })
  session.on('cluster', ({ service, change, size, reason }) => {
    const level = change === 'failed' ? 'error' : change === 'resized' ? 'debug' : 'info'
    const detail = change === 'closed' ? '' : `, size ${size}`
    logger[level]({ service, size, ...toReasonField(reason) }, `${service}: ${change}${detail}`)
  })
  session.on('resend', ({ service, id, attempt, instance, reason }) => {
    const text = `${service}: request ${id} is sent again`
    logger.debug({ service, request: id, attempt, instance, ...toReasonField(reason) }, text)
  })
  session.on('agent', ({ agent, change, reason }) => {
    logger.info({ agent, ...toReasonField(reason) }, `agent ${agent}: ${change}`)
  })
  session.on('error', ({ code, message, service, output }) => {
    const [first = '', ...rest] = message.split('\n')
    const below = output ?? rest.join('\n')
    logger.error({ code, ...(service && { service }), ...(below && { output: below }) }, first)
  })
}

function logInstance(
  { service, instance, state, reason, output }: InstanceEvent,
  logger: Logger,
): void {
  const facts = { service, instance, state, ...toReasonField(reason), ...(output && { output }) }
  logger[LEVELS[state]](facts, `${service}: ${instance} is ${state}`)
}

function toReasonField(reason: string | undefined): { reason?: string } {
  return reason ? { reason: reason.split('\n', 1)[0] as string } : {}
}
