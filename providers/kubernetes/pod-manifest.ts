/** The manifest of the pod of one instance. */

import type { V1Pod } from '@kubernetes/client-node'
import type { StartSpec } from '../../src/core/provider.ts'
import { containerCwd } from '../shared/container-cwd.ts'
import {
  INSTANCE_LABEL,
  isLabelName,
  isLabelValue,
  LABELS_ANNOTATION,
  OWNER_ANNOTATION,
  podName,
  SERVER_CONTAINER,
  SERVICE_ANNOTATION,
  SESSION_LABEL,
} from './names.ts'
import type { KubernetesSettings } from './options.ts'
import { idleScript } from './startup-scripts.ts'
import { mergeTemplates } from './template.ts'

export interface PodPlan {
  readonly spec: StartSpec
  readonly settings: KubernetesSettings
  readonly image: string
  readonly session: string
  readonly owner: string
  readonly env: Readonly<Record<string, string>>
}

const IMAGE_PULL_POLICIES = { missing: 'IfNotPresent', always: 'Always', never: 'Never' } as const

/** How long a pod stays on a node that does not answer, in s. The default of the cluster is 300. */
const LOST_NODE_SECONDS = 10

export function buildPodManifest({ spec, settings, image, session, owner, env }: PodPlan): V1Pod {
  const { cpus, memory } = spec.resources ?? {}
  const limits = {
    ...(cpus !== undefined && { cpu: `${Math.round(cpus * 1_000)}m` }),
    ...(memory !== undefined && { memory: String(Math.round(memory)) }),
  }
  const labels = { ...settings.labels, ...spec.labels }
  const cwd = containerCwd(spec, settings)
  const base = {
    metadata: {
      // The value of a label may have few kinds of characters. An annotation holds all labels as they were given.
      labels: Object.fromEntries(
        Object.entries(labels).filter(([name, value]) => isLabelName(name) && isLabelValue(value)),
      ),
      annotations: {},
    },
    spec: {
      // An instance does not need the API of the cluster. The template may say otherwise.
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      ...(settings.serviceAccount && { serviceAccountName: settings.serviceAccount }),
      tolerations: ['not-ready', 'unreachable'].map((what) => ({
        key: `node.kubernetes.io/${what}`,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: LOST_NODE_SECONDS,
      })),
      containers: [
        {
          name: SERVER_CONTAINER,
          image,
          ...(settings.pull && { imagePullPolicy: IMAGE_PULL_POLICIES[settings.pull] }),
          ...(Object.keys(limits).length > 0 && { resources: { limits, requests: limits } }),
          ports: [{ name: 'http', containerPort: settings.port }],
          securityContext: { allowPrivilegeEscalation: false },
        },
      ],
    },
  }
  const ours = {
    metadata: {
      name: podName(spec.id),
      labels: {
        [SESSION_LABEL]: session,
        ...(isLabelValue(spec.id) && { [INSTANCE_LABEL]: spec.id }),
      },
      annotations: {
        [INSTANCE_LABEL]: spec.id,
        [SERVICE_ANNOTATION]: spec.service,
        [OWNER_ANNOTATION]: owner,
        [LABELS_ANNOTATION]: JSON.stringify(labels),
      },
    },
    spec: {
      // The session restarts instances itself, because it must know of each end.
      restartPolicy: 'Never',
      containers: [
        {
          name: SERVER_CONTAINER,
          env: Object.entries(env).map(([name, value]) => ({
            name,
            value: escapeReferences(value),
          })),
          ...(cwd !== undefined && !spec.startup && { workingDir: cwd }),
          ...containerCommand(spec),
        },
      ],
    },
  }
  const { metadata, spec: made } = mergeTemplates(
    mergeTemplates(base, settings.template),
    ours,
  ) as V1Pod
  return { apiVersion: 'v1', kind: 'Pod', metadata: metadata ?? {}, ...(made && { spec: made }) }
}

function containerCommand(spec: StartSpec): { command?: string[]; args?: string[] } {
  if (spec.startup)
    return { command: ['sh', '-c', escapeReferences(idleScript(spec.id))], args: [] }
  if (!spec.command) return {}
  const [first = '', ...rest] = spec.command
  return { command: [escapeReferences(first)], args: rest.map(escapeReferences) }
}

/** The cluster replaces `$(NAME)` by the value of NAME, and `$$` by `$`. */
function escapeReferences(text: string): string {
  return text.replaceAll('$', () => '$$')
}
