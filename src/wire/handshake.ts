/** The greeting on a link: the dialling end's part, and the dialled end's. */
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

/** The key of the peer with this ident. If the user's function fails, the peer has no key. */
function findSecret(link: WireLink, ident: string | undefined): OptionalSecret {
  const { key } = link.settings
  if (typeof key !== 'function') return key
  const failed = (how: string, cause?: unknown): undefined => {
    const text = `the function \`key\` of a wire link ${how}. The peer is treated as one without a key`
    link.reportUnobserved(new ManyhostError('MANYHOST_FUNCTION_FAILED', text, { cause }))
  }
  try {
    const found: unknown = key(ident)
    if (found === undefined || typeof found === 'string' || found instanceof Uint8Array)
      return found
    catchRejection(found, () => undefined)
    return failed(`returned ${describe(found)}; it must return a text, bytes or undefined`)
  } catch (error) {
    return failed(`threw: ${describeError(error)}`, error)
  }
}

function createHello({ beat, packetSize, ident }: WireSettings, strict?: boolean): GreetingHello {
  const hello = { nonce: createNonce(), beat: Math.round(beat), packetSize }
  return { ...hello, ...(ident !== undefined && { ident }), ...(strict && { isStrict: true }) }
}

/** From now on both ends use what an original peer would not understand. */
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
 * The dialling end's part. Resolves when it is known whether the peer is manyhost or an original, and who it is.
 * @throws ManyhostError MANYHOST_WIRE_AUTH, MANYHOST_WIRE_CLOSED, MANYHOST_TIMEOUT
 */
export async function sendGreeting(link: WireLink): Promise<void> {
  const { settings } = link
  if (!settings.extensions) {
    if (requiresProof(settings)) throw createAuthError('the option key requires extensions: true')
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
    // The demultiplexer calls this while it pumps: the next packet may already be one that only manyhost peers send.
    onGreeting: (code: string) => {
      const greeting = parseGreeting(code)
      if (greeting?.kind !== 'welcome' || !greeting.hello) return undefined
      const isProved =
        secret !== undefined &&
        isSameProof(greeting.proof, computeProof(secret, 'serve', hello, greeting.text))
      if (greeter.isStrict && !isProved)
        throw createAuthError('the peer could not prove that it has the key')
      if (greeting.hello.isStrict && secret === undefined)
        throw createAuthError('the peer requires a key, and this end has none')
      const proof =
        secret === undefined ? undefined : computeProof(secret, 'dial', hello, greeting.text)
      // From now on the peer may post to us, from the next packet on.
      greeter.isStrict = false
      ready = confirmGreeting(link, greeting.hello, formatGreeting('ready', '', proof), isProved)
      ready.catch(() => {})
      return greeting.text
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
      throw createAuthError(
        'a key is required, and the peer is an original one, which knows no keys',
      )
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
 * The dialled end's part: answers a hello if one comes. While it requires a proof, everything else is refused.
 * `onKnown` is called once: at once, or if a proof is required, when the peer has proved that it has the key.
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
      const greeting = parseGreeting(code)
      if (greeting?.kind === 'hello' && !hello) {
        hello = greeting
        secret =
          settings.key === undefined
            ? undefined
            : (findSecret(link, greeting.hello?.ident) ?? createDecoySecret())
        welcome = JSON.stringify(createHello(settings, strict))
        const proof = secret && computeProof(secret, 'serve', greeting.text, welcome)
        return formatGreeting('welcome', welcome, proof)
      }
      if (greeting?.kind === 'ready' && hello?.hello) {
        const isProved =
          secret !== undefined &&
          isSameProof(greeting.proof, computeProof(secret, 'dial', hello.text, welcome))
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
