/** A certificate authority of the test's own, and what it has signed: for a server on loopback and for its client. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Makes ca.pem, server-cert.pem, server-key.pem, and the client's cert.pem and key.pem. */
export function makeCertificates(folder: string): void {
  mkdirSync(folder, { recursive: true })
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const subject = (name: string): string[] => ['-subj', `/CN=${name}`]
  openssl('req', '-x509', ...newKey, ...subject('ca'), '-keyout', 'ca-key.pem', '-out', 'ca.pem')
  const sign = (name: string, extension: string, cert: string, key: string): void => {
    writeFileSync(join(folder, `${name}.ext`), `${extension}\n`)
    openssl('req', ...newKey.slice(0, 5), ...subject(name), '-keyout', key, '-out', `${name}.csr`)
    const signed = ['-in', `${name}.csr`, '-extfile', `${name}.ext`, '-out', cert, '-days', '2']
    openssl('x509', '-req', '-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', ...signed)
  }
  sign('server', 'subjectAltName=IP:127.0.0.1', 'server-cert.pem', 'server-key.pem')
  sign('client', 'extendedKeyUsage=clientAuth', 'cert.pem', 'key.pem')
}
