/** The calls to an engine, as the parts of this provider see them. Types only. */
import type Docker from 'dockerode'
import type { EngineCallOptions } from '../shared/engine-caller.ts'

export type DockerContainer = Docker.Container

export interface DockerCaller {
  /**
   * @throws ManyhostError MANYHOST_START_FAILED when the engine cannot be reached; otherwise the refusal of the engine,
   * as an error with `statusCode`
   */
  call<T>(
    what: string,
    action: (docker: Docker, abortSignal: AbortSignal) => Promise<T>,
    options?: EngineCallOptions,
  ): Promise<T>
}
