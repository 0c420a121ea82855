/** The greeting on a link: each end's part in it. */

import { deferred } from '../core/deferred.ts'
import { describe } from '../core/describe.ts'
import { describeError, ManyhostError } from '../core/errors.ts'
import { after } from '../core/time.ts'
import { catchRejection } from '../core/user-functions.ts'
import { createAuthError } from './errors.ts'
import {
  computeProof,
  createDecoySecret,
  createNonce,
  formatGreeting,
  type Greeting,
  type GreetingHello,
  HELLO_NUMBER,
  isSameProof,
  MAX_GREETING_BYTES,
  parseGreeting,
  READY_NUMBER,
  type WireSecret,
} from './greeting.ts'
import type { WireLink } from './link.ts'
import type { GreetingHandler } from './link-types.ts'
import type { WireSettings } from './options.ts'
import { END_OF_RESPONSE } from './poco.ts'
import { repr } from './repr.ts'

type OptionalSecret = WireSecret | undefined

function requiresProof({ key, auth }: WireSettings): boolean {
  return key !== undefined && auth === 'required'
}

/**
 * The key of who says to have this ident. Where it comes from a function of the user, a failure is no key.
 */
function findSecret(link: WireLink, ident: string | undefined): OptionalSecret {
  const { key } = link.settings
  if (typeof key !== 'function') return key
  const failed = (how: string, cause?: unknown): undefined => {
    const text = `the function \`key\` of a wire link ${how}. Instead, the peer has no key`
    link.reportUnobserved(new ManyhostError('MANYHOST_FUNCTION_FAILED', text, { cause }))
  }
  try {
    const found: unknown = key(ident)
    if (found === undefined || typeof found === 'string' || found instanceof Uint8Array)
      return found
    catchRejection(found, () => undefined)
    return failed(`answered ${describe(found)}; it must answer a text, bytes or undefined`)
  } catch (error) {
    return failed(`threw: ${describeError(error)}`, error)
  }
}

function createHello({ beat, packetSize, ident }: WireSettings, strict?: boolean): GreetingHello {
  const say = { nonce: createNonce(), beat: Math.round(beat), packetSize }
  return { ...say, ...(ident !== undefined && { ident }), ...(strict && { isStrict: true }) }
}

/** From now on both ends say more than an original peer would understand. */
function enableExtensions(link: WireLink, hello: GreetingHello, isAuthenticated: boolean): void {
  link.parser.isFramed = true
  link.parser.maxTextBytes = link.settings.packetSize
  link.maxPacketBytes = hello.packetSize
  Object.assign(link.peer, {
    isExtended: true,
    isAuthenticated,
    beat: hello.beat,
    ident: hello.ident,
  })
}

/**
 * The dialling end's part. Resolves when the peer is known, be it an original one.
 * @throws ManyhostError MANYHOST_WIRE_AUTH, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT
 */
export async function sendGreeting(link: WireLink): Promise<void> {
  const { settings } = link
  if (!settings.extensions) {
    if (requiresProof(settings)) throw createAuthError('a key needs the extensions')
    return
  }
  const gate = deferred<void>()
  const hello = JSON.stringify(createHello(settings))
  const secret = findSecret(link, settings.ident)
  let ready: Promise<void> | undefined
  const greeter = {
    isStrict: requiresProof(settings),
    mayPost: gate.promise,
    onHelloAnswered: () => {},
    // In the middle of the pump: the very next packet may be one that only manyhost peers send.
    onGreeting: (code: string) => {
      const said = parseGreeting(code)
      if (said?.kind !== 'welcome' || !said.hello) return undefined
      const isProved =
        secret !== undefined &&
        isSameProof(said.proof, computeProof(secret, 'serve', hello, said.text))
      if (greeter.isStrict && !isProved)
        throw createAuthError('the peer could not prove that it has the key')
      if (said.hello.isStrict && secret === undefined) throw createAuthError('the peer wants a key')
      const proof =
        secret === undefined ? undefined : computeProof(secret, 'dial', hello, said.text)
      // It may post to us as well now, with the very next packet.
      greeter.isStrict = false
      ready = confirmGreeting(link, said.hello, formatGreeting('ready', '', proof), isProved)
      ready.catch(() => {})
      return said.text
    },
  } satisfies GreetingHandler
  link.greeter = greeter
  const timer = after(settings.handshakeTimeout, () => {
    const message = `no greeting within ${settings.handshakeTimeout} ms`
    void link.disconnect(message, true, new ManyhostError('MANYHOST_TIMEOUT', message))
  })
  try {
    await link.sendLock.acquire()
    const co = link.openConversation(HELLO_NUMBER)
    await co.sendCode(repr(formatGreeting('hello', hello)))
    await co.startRecv()
    const answer = await co.receiveNext()
    co.close()
    if (answer === END_OF_RESPONSE && greeter.isStrict)
      throw createAuthError('the peer knows no keys')
    await ready
    if (!link.isExtended) link.greeter = undefined
  } finally {
    timer.clear()
    gate.resolve()
  }
}

async function confirmGreeting(
  link: WireLink,
  hello: GreetingHello,
  text: string,
  isProved: boolean,
): Promise<void> {
  if (!link.sendLock.tryAcquire()) await link.sendLock.acquire()
  const co = link.openConversation(READY_NUMBER)
  link.sendPacket('', repr(text))
  co.finishSend()
  link.sender.isFramed = true
  enableExtensions(link, hello, isProved)
  await co.waitCompleted()
}

/**
 * The dialled end's part: answers a hello if one comes, and refuses all else while it wants a proof.
 * `onKnown` is called once: at once, or when the peer has proved itself.
 */
export function answerGreeting(link: WireLink, onKnown: () => void): void {
  const { settings } = link
  if (!settings.extensions) return onKnown()
  const strict = requiresProof(settings)
  let hello: Greeting | undefined
  let welcome = ''
  let secret: OptionalSecret
  const timer = after(settings.handshakeTimeout, () => {
    if (greeter.isStrict) fail(`no proof within ${settings.handshakeTimeout} ms`)
  })
  const fail = (message: string): void => {
    void link.disconnect(message, true, createAuthError(message))
  }
  const greeter = {
    isStrict: strict,
    mayPost: Promise.resolve(),
    onGreeting(code: string): unknown {
      const said = parseGreeting(code)
      if (said?.kind === 'hello' && !hello) {
        hello = said
        secret =
          settings.key === undefined
            ? undefined
            : (findSecret(link, said.hello?.ident) ?? createDecoySecret())
        welcome = JSON.stringify(createHello(settings, strict))
        const proof = secret && computeProof(secret, 'serve', said.text, welcome)
        return formatGreeting('welcome', welcome, proof)
      }
      if (said?.kind === 'ready' && hello?.hello) {
        const isProved =
          secret !== undefined &&
          isSameProof(said.proof, computeProof(secret, 'dial', hello.text, welcome))
        if (greeter.isStrict && !isProved) return void fail('authentication failed')
        greeter.isStrict = false
        timer.clear()
        enableExtensions(link, hello.hello, isProved)
        if (strict) onKnown()
        return undefined
      }
      if (greeter.isStrict) fail('authentication required')
      return undefined
    },
    onHelloAnswered() {
      link.sender.isFramed = true
    },
  } satisfies GreetingHandler
  link.greeter = greeter
  if (strict) link.parser.maxTextBytes = MAX_GREETING_BYTES
  else {
    timer.clear()
    onKnown()
  }
  void link.closed.then(() => timer.clear())
}
