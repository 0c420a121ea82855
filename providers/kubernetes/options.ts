/** Options of `kubernetes`, checked once, where they are given. */
import { isAbsolute } from 'node:path'
import {
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
  whole,
} from '../../src/core/options.ts'
import { type KubernetesPodTemplate, readTemplate } from './template.ts'

export interface KubernetesOptions {
  /** File that says where the cluster is. @default KUBECONFIG, `~/.kube/config`, or the cluster that this runs in */
  readonly kubeconfig?: string
  /** Context of that file. @default its current one */
  readonly context?: string
  /** @default that of the context, or of the service account; else 'default' */
  readonly namespace?: string
  /** Image of services that name none. */
  readonly image?: string
  /** When a node fetches the image. @default the cluster's: `:latest` always, others when missing */
  readonly pull?: 'missing' | 'always' | 'never'
  /** What the server is to listen on within its pod, from 1 to 65535. @default 8080 */
  readonly port?: number
  /**
   * `pod-ip`: connections go straight to pods; `forward`: through the API server, from anywhere.
   * @default 'pod-ip' in the cluster, 'forward' outside of it
   */
  readonly reach?: 'pod-ip' | 'forward'
  /** Environment of all instances; a service's own comes on top. */
  readonly env?: Readonly<Record<string, string>>
  /** Labels of all pods; a service's own come on top. */
  readonly labels?: Readonly<Record<string, string>>
  /** Folder that instances run in. @default that of the image */
  readonly cwd?: string
  /** Service account of the pods. Its token is not mounted unless the template says so. */
  readonly serviceAccount?: string
  /** Goes into each pod: an object, or YAML or JSON. Lists of what has names (containers, env) are merged by name. */
  readonly template?: KubernetesPodTemplate | string
  /** Runs no pods of its own, but sets the replicas of this one and uses its ready pods. */
  readonly scale?: { readonly kind: 'deployment' | 'statefulset'; readonly name: string }
  /** What becomes of pods that a session left when it was killed. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
  /**
   * A name for this program, where one at a time runs, on whatever machine: then all that an earlier one left is swept.
   * @default the process: only what dead processes of this machine left is swept
   */
  readonly owner?: string
}

const NAME_RULE = text('a name', (value) => value !== '')
const LABEL_RULE = text(
  'a name of lower-case letters, digits, - and .',
  (value) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(value) && value.length <= 253,
)

const PORT_RULE = whole(1, 8_080)

/** Every option with its range and default; docs/kubernetes.md is held against this one by a test. */
export const KUBERNETES_RULES = {
  kubeconfig: text('the path of a file', (value) => value !== ''),
  context: NAME_RULE,
  namespace: LABEL_RULE,
  image: text('a name of an image', (value) => value !== '' && !value.startsWith('-')),
  pull: rule<'missing' | 'always' | 'never'>(
    "'missing', 'always', 'never'",
    undefined,
    (value) => (value === 'missing' || value === 'always' || value === 'never' ? value : undefined),
    { is: 'choice', names: ['missing', 'always', 'never'] },
  ),
  port: rule(
    'a port',
    8_080,
    (value) => {
      const number = PORT_RULE.parse(value)
      return number !== undefined && number <= 65_535 ? number : undefined
    },
    { is: 'number', min: 1, max: 65_535, whole: true },
  ),
  reach: rule<'pod-ip' | 'forward'>(
    "'pod-ip', 'forward'",
    undefined,
    (value) => (value === 'pod-ip' || value === 'forward' ? value : undefined),
    { is: 'choice', names: ['pod-ip', 'forward'] },
  ),
  env: record(),
  labels: record(),
  cwd: text('an absolute path', isAbsolute),
  serviceAccount: LABEL_RULE,
  template: rule<KubernetesPodTemplate>(
    'a pod or its parts: an object, or YAML or JSON with `metadata` and `spec`',
    undefined,
    readTemplate,
    { is: 'either', forms: [{ is: 'text' }, { is: 'tree' }] },
  ),
  scale: nested<NonNullable<KubernetesOptions['scale']>>(
    '{ kind, name }',
    { kind: oneOf(['deployment', 'statefulset'], 'deployment'), name: LABEL_RULE },
    ['name'],
  ),
  adopt: oneOf(['sweep', 'keep'], 'sweep'),
  owner: text('letters, digits and -_. only', (value) => /^[\w.-]{1,100}$/.test(value)),
} as const

export type KubernetesSettings = ParsedOptions<typeof KUBERNETES_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseKubernetesOptions(options: KubernetesOptions): KubernetesSettings {
  return parseOptions('kubernetes', options, KUBERNETES_RULES)
}
