/** A self-signed certificate, written in DER by hand (RFC 5280 section 4.1): no program is needed for it. */
import { generateKeyPairSync, sign } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

function der(tag: number, ...parts: readonly (Buffer | string)[]): Buffer {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as Buffer)))
  const { length } = content
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

const sequence = (...parts: readonly Buffer[]): Buffer => der(0x30, ...parts)
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'))
const COMMON_NAME = oid('550403')
/** Any that fits in two digits of a year. */
const VALIDITY = sequence(der(0x17, '200101000000Z'), der(0x17, '491231235959Z'))

/** Writes `<name>.crt` and `<name>.key`, both PEM, for a subject of that name. */
export function certificate(folder: string, name: string): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const subject = sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, name))))
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ECDSA_WITH_SHA256,
    subject,
    VALIDITY,
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
  )
  const signature = der(0x03, Buffer.from([0]), sign('sha256', content, privateKey))
  const whole = sequence(content, ECDSA_WITH_SHA256, signature).toString('base64')
  const lines = whole.match(/.{1,64}/g) as string[]
  const cert = join(folder, `${name}.crt`)
  const key = join(folder, `${name}.key`)
  writeFileSync(
    cert,
    ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n'),
  )
  writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  return { cert, key }
}
