/** The greeting on a link: each end's part in it. */
import { describe, ManyhostError } from '../core/errors.ts'
import { watch } from '../core/guarded.ts'
import { show } from '../core/options.ts'
import { after } from '../core/time.ts'
import { deferred } from './deferred.ts'
import * as greeting from './greeting.ts'
import type { Greeter, Link } from './link.ts'
import type { Settings } from './options.ts'
import { NOTHING } from './poco.ts'
import { repr } from './repr.ts'

type Secret = greeting.Secret | undefined

function isStrict({ key, auth }: Settings): boolean {
  return key !== undefined && auth === 'required'
}

/**
 * The key of who says to have this ident. Where it comes from a function of the user, a failure is no key.
 */
function secretOf(link: Link, ident: string | undefined): Secret {
  const { key } = link.settings
  if (typeof key !== 'function') return key
  const failed = (how: string, cause?: unknown): undefined => {
    const text = `the function \`key\` of a wire link ${how}. Instead, the peer has no key`
    link.unobserved(new ManyhostError('MANYHOST_FUNCTION_FAILED', text, { cause }))
  }
  try {
    const found: unknown = key(ident)
    if (found === undefined || typeof found === 'string' || found instanceof Uint8Array)
      return found
    watch(found, () => undefined)
    return failed(`answered ${show(found)}; it must answer a text, bytes or undefined`)
  } catch (error) {
    return failed(`threw: ${describe(error)}`, error)
  }
}

function helloOf({ beat, packetSize, ident }: Settings, strict?: boolean): greeting.Hello {
  const say = { nonce: greeting.nonce(), beat: Math.round(beat), packetSize }
  return { ...say, ...(ident !== undefined && { ident }), ...(strict && { isStrict: true }) }
}

/** From now on both ends say more than an original peer would understand. */
function agree(link: Link, hello: greeting.Hello, isAuthenticated: boolean): void {
  link.frames.isFramed = true
  link.frames.limit = link.settings.packetSize
  link.packetLimit = hello.packetSize
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
export async function greet(link: Link): Promise<void> {
  const { settings } = link
  if (!settings.extensions) {
    if (isStrict(settings)) throw greeting.authError('a key needs the extensions')
    return
  }
  const gate = deferred<void>()
  const hello = JSON.stringify(helloOf(settings))
  const secret = secretOf(link, settings.ident)
  let ready: Promise<void> | undefined
  const greeter = {
    isStrict: isStrict(settings),
    gate: gate.promise,
    onAnswered: () => {},
    // In the middle of the pump: the very next packet may be one that only manyhost peers send.
    onGreeting: (code: string) => {
      const said = greeting.read(code)
      if (said?.kind !== 'welcome' || !said.hello) return undefined
      const isProved =
        secret !== undefined &&
        greeting.isProof(said.proof, greeting.prove(secret, 'serve', hello, said.text))
      if (greeter.isStrict && !isProved)
        throw greeting.authError('the peer could not prove that it has the key')
      if (said.hello.isStrict && secret === undefined)
        throw greeting.authError('the peer wants a key')
      const proof =
        secret === undefined ? undefined : greeting.prove(secret, 'dial', hello, said.text)
      // It may post to us as well now, with the very next packet.
      greeter.isStrict = false
      ready = confirm(link, said.hello, greeting.write('ready', '', proof), isProved)
      ready.catch(() => {})
      return said.text
    },
  } satisfies Greeter
  link.greeter = greeter
  const timer = after(settings.handshakeTimeout, () => {
    const message = `no greeting within ${settings.handshakeTimeout} ms`
    void link.disconnect(message, true, new ManyhostError('MANYHOST_TIMEOUT', message))
  })
  try {
    await link.turn.take()
    const co = link.open(greeting.HELLO)
    await co.sendCode(repr(greeting.write('hello', hello)))
    await co.startRecv()
    const answer = await co.recvNext()
    co.close()
    if (answer === NOTHING && greeter.isStrict) throw greeting.authError('the peer knows no keys')
    await ready
    if (!link.isExtended) link.greeter = undefined
  } finally {
    timer.clear()
    gate.resolve()
  }
}

async function confirm(
  link: Link,
  hello: greeting.Hello,
  text: string,
  isProved: boolean,
): Promise<void> {
  if (!link.turn.tryTake()) await link.turn.take()
  const co = link.open(greeting.READY)
  link.send('', repr(text))
  co.finishSend()
  link.outlet.isFramed = true
  agree(link, hello, isProved)
  await co.waitCompleted()
}

/**
 * The dialled end's part: answers a hello if one comes, and refuses all else while it wants a proof.
 * `onKnown` is called once: at once, or when the peer has proved itself.
 */
export function expectGreeting(link: Link, onKnown: () => void): void {
  const { settings } = link
  if (!settings.extensions) return onKnown()
  const strict = isStrict(settings)
  let hello: greeting.Greeting | undefined
  let welcome = ''
  let secret: Secret
  const timer = after(settings.handshakeTimeout, () => {
    if (greeter.isStrict) fail(`no proof within ${settings.handshakeTimeout} ms`)
  })
  const fail = (message: string): void => {
    void link.disconnect(message, true, greeting.authError(message))
  }
  const greeter = {
    isStrict: strict,
    gate: Promise.resolve(),
    onGreeting(code: string): unknown {
      const said = greeting.read(code)
      if (said?.kind === 'hello' && !hello) {
        hello = said
        secret =
          settings.key === undefined
            ? undefined
            : (secretOf(link, said.hello?.ident) ?? greeting.nobodys())
        welcome = JSON.stringify(helloOf(settings, strict))
        const proof = secret && greeting.prove(secret, 'serve', said.text, welcome)
        return greeting.write('welcome', welcome, proof)
      }
      if (said?.kind === 'ready' && hello?.hello) {
        const isProved =
          secret !== undefined &&
          greeting.isProof(said.proof, greeting.prove(secret, 'dial', hello.text, welcome))
        if (greeter.isStrict && !isProved) return void fail('authentication failed')
        greeter.isStrict = false
        timer.clear()
        agree(link, hello.hello, isProved)
        if (strict) onKnown()
        return undefined
      }
      if (greeter.isStrict) fail('authentication required')
      return undefined
    },
    onAnswered() {
      link.outlet.isFramed = true
    },
  }
  link.greeter = greeter
  if (strict) link.frames.limit = greeting.GREETING_MAX
  else {
    timer.clear()
    onKnown()
  }
  void link.closed.then(() => timer.clear())
}
