/** The same conversations over TLS. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { dial, serve } from '../../src/wire/index.ts'
import { rejectionOf } from '../help.ts'

it('goes over TLS, and refuses a certificate that it does not know', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-wire-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', key, '-out', cert]
  const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...files, ...subject]
  execFileSync('openssl', made, { stdio: 'ignore' })
  const tls = { key: readFileSync(key), cert: readFileSync(cert) }
  const server = await serve({ port: 0, tls }, { echo: (x: unknown) => x })
  try {
    const { po } = await dial({ port: server.port, tls: { ca: tls.cert } }, {})
    expect(await po.call('echo', 'secret')).toBe('secret')
    await po.disconnect()
    const error = await rejectionOf(dial({ port: server.port, tls: true }, {}))
    expect(error.code).toBe('MANYHOST_WIRE_CLOSED')
    expect(error.message).toMatch(/self.signed/i)
  } finally {
    await server.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
