/** The addresses of engines: from option `hosts`, from DOCKER_HOST, or the usual sockets. */
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'

export interface DockerAddress {
  /** For people. */
  readonly url: string
  readonly socketPath?: string
  readonly host?: string
  readonly port?: number
  readonly tls?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer }
}

const TLS_PORT = 2376

export function isDockerAddress(url: string): boolean {
  if (/^unix:\/\/\/./.test(url)) return true
  if (!/^(tcp|https?):\/\//.test(url) || !URL.canParse(url)) return false
  const { hostname, username, pathname } = new URL(url)
  return hostname !== '' && username === '' && /^\/?$/.test(pathname)
}

/** The socket of an engine if no address is given: the socket of the system, or that of the user. */
export function defaultSocketUrl(engine: 'docker' | 'podman', env = process.env): string {
  const runtime = env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`
  const paths =
    engine === 'podman'
      ? ['/run/podman/podman.sock', join(runtime, 'podman/podman.sock')]
      : [
          '/var/run/docker.sock',
          join(runtime, 'docker.sock'),
          join(homedir(), '.docker/run/docker.sock'),
        ]
  return `unix://${paths.find((path) => existsSync(path)) ?? paths[0]}`
}

/**
 * @throws ManyhostError MANYHOST_INVALID_OPTION if the address has no known form, or if certificates cannot be read
 */
export function parseDockerAddress(
  url: string,
  certs: string | undefined,
  env = process.env,
): DockerAddress {
  if (!isDockerAddress(url)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `the address of an engine must be like unix:///path, tcp://host:port or https://host:port, got ${JSON.stringify(url)}`,
    )
  }
  if (url.startsWith('unix://')) return { url, socketPath: url.slice('unix://'.length) }
  const { protocol, hostname, port: given } = new URL(url)
  const folder = certs ?? env.DOCKER_CERT_PATH
  const isTls =
    protocol === 'https:' ||
    certs !== undefined ||
    Boolean(env.DOCKER_TLS_VERIFY) ||
    given === String(TLS_PORT)
  const port = Number(given || (isTls ? TLS_PORT : 2375))
  const host = hostname.replace(/^\[|\]$/g, '')
  if (!isTls) return { url, host, port }
  if (!folder) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `certs is missing: ${url} needs TLS, so set certs to a folder with ca.pem, cert.pem and key.pem`,
    )
  }
  const read = (name: string): Buffer => {
    try {
      return readFileSync(join(folder, name))
    } catch (cause) {
      throw new ManyhostError('MANYHOST_INVALID_OPTION', `certs: ${describeError(cause)}`, {
        cause,
      })
    }
  }
  return {
    url,
    host,
    port,
    tls: { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') },
  }
}
