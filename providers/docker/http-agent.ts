/** Connections to an engine. None is kept, because after a restart of the engine a kept one would fail the next call. */
import { Agent, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as SecureAgent } from 'node:https'
import { inspect } from 'node:util'

interface HttpAgentInternals {
  addRequest(request: ClientRequest, ...rest: unknown[]): void
}

/**
 * dockerode listens only to the errors of its requests. A response that is cut is an error of the response, so a call
 * would wait for the rest of it for ever.
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
  // docker-modem formats all options of a call, hidden properties too, for a log that is switched off. An agent has all
  // its connections in there: with 32 followed containers a call took a second of processor time.
  Object.defineProperty(agent, inspect.custom, { value: () => 'Agent' })
  return agent
}
