/** Where engines are: as a list says it, as DOCKER_HOST says it, or where they usually are. */
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

/** Socket of the engine of that name where nobody says another one: that of the system, or of the user. */
export function defaultSocketUrl(engine: 'docker' | 'podman', env = process.env): string {
  const runtime = env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`
  const places =
    engine === 'podman'
      ? ['/run/podman/podman.sock', join(runtime, 'podman/podman.sock')]
      : [
          '/var/run/docker.sock',
          join(runtime, 'docker.sock'),
          join(homedir(), '.docker/run/docker.sock'),
        ]
  return `unix://${places.find((path) => existsSync(path)) ?? places[0]}`
}

/**
 * @throws ManyhostError MANYHOST_INVALID_OPTION where certificates cannot be read, or DOCKER_HOST is none of these
 */
export function parseDockerAddress(
  url: string,
  certs: string | undefined,
  env = process.env,
): DockerAddress {
  if (!isDockerAddress(url)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `an engine is at unix:///path, tcp://host:port or https://host:port, got ${JSON.stringify(url)}`,
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
      `certs is missing: ${url} speaks TLS, which wants a folder with ca.pem, cert.pem and key.pem`,
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
