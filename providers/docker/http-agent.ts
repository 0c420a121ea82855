/** Connections to an engine, none of them kept: one that a restarted engine has left would fail the next call. */
import { Agent, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as SecureAgent } from 'node:https'
import { inspect } from 'node:util'

interface HttpAgentInternals {
  addRequest(request: ClientRequest, ...rest: unknown[]): void
}

/**
 * dockerode listens to errors of its requests only. An answer that is cut is an error of the answer, and so a call would
 * wait for its rest for ever.
 */
export function createHttpAgent(isSecure: boolean): Agent {
  const agent = isSecure ? new SecureAgent() : new Agent()
  const requests = agent as unknown as HttpAgentInternals
  const { addRequest } = requests
  requests.addRequest = (request, ...rest) => {
    request.once('response', (response: IncomingMessage) => {
      response.on('error', (error) => request.emit('error', error))
    })
    addRequest.call(agent, request, ...rest)
  }
  // docker-modem puts into words all that a call is made with, hidden properties too, for a log that is off. Of an agent
  // these are all its connections, so that with 32 followed containers a call cost a second of CPU.
  Object.defineProperty(agent, inspect.custom, { value: () => 'Agent' })
  return agent
}
