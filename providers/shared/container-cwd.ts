/** The working folder of an instance in a container. */
import { posix } from 'node:path'

interface WithCwd {
  readonly cwd?: string | undefined
}

/**
 * The folder of a service in its container; undefined for the folder of the image. The paths are those of the container, so
 * they are POSIX paths on every system. A relative `cwd` of the service is below the `cwd` of the provider's options.
 */
export function containerCwd(service: WithCwd, provider: WithCwd): string | undefined {
  if (service.cwd === undefined) return provider.cwd
  return posix.resolve(provider.cwd ?? '/', service.cwd)
}
