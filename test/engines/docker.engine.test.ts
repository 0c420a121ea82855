import { docker } from '../../providers/docker/index.ts'
import { containerConformance } from './container-conformance.ts'
import { withEngine } from './engine.ts'

withEngine('/usr/sbin/dockerd', 'docker', () => {
  containerConformance('docker', docker)
})
