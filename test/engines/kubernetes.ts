/** A cluster of which the API server, its store and the controllers are real, and the node is played. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kubelet } from '../fakes/kubelet.ts'
import { type ControlPlane, openControlPlane } from './control-plane.ts'

export interface Cluster extends ControlPlane {
  readonly kubelet: Kubelet
}

export async function openCluster(): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), 'mh-kubernetes-'))
  // Nobody here makes the accounts that it would ask for.
  const args = ['--disable-admission-plugins=ServiceAccount']
  const plane = await openControlPlane({ folder, args })
  // Those alone that the tests are about: the node's life is played.
  plane.controllers(['--controllers=deployment,replicaset,statefulset,endpoint,garbagecollector'])
  const kubelet = new Kubelet(plane.config)
  await kubelet.open()
  return {
    ...plane,
    kubelet,
    close: async () => {
      await kubelet.close()
      await plane.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
