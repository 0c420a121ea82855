import { podman } from '../../providers/docker/index.ts'
import { containerConformance } from './container-conformance.ts'
import { withEngine } from './engine.ts'

withEngine('/usr/bin/podman', 'podman', () => {
  containerConformance('podman', podman)
})
