/** The working folder of an instance in a container: for Docker and Kubernetes. */
import { posix } from 'node:path'

/**
 * Undefined for the folder of the image. The paths are those of the container, so they are POSIX paths on every system.
 * @param providerCwd the folder that the options of the provider name; a relative `serviceCwd` is below it
 */
export function resolveContainerCwd(
  serviceCwd: string | undefined,
  providerCwd: string | undefined,
): string | undefined {
  return serviceCwd === undefined ? providerCwd : posix.resolve(providerCwd ?? '/', serviceCwd)
}
