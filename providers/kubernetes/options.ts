/** The options of `kubernetes`, with their rules. */
import { isAbsolute } from 'node:path'
import {
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
} from '../../src/core/options.ts'
import { ADOPT_RULE, OWNER_RULE, portRule } from '../shared/option-rules.ts'
import { type KubernetesPodTemplate, readTemplate } from './template.ts'

export interface KubernetesOptions {
  /** File with the address of the cluster. @default KUBECONFIG, `~/.kube/config`, or the cluster that this program runs in */
  readonly kubeconfig?: string
  /** Context of that file. @default its current one */
  readonly context?: string
  /** @default the namespace of the context, or of the service account; else 'default' */
  readonly namespace?: string
  /** Image of the services that name none. */
  readonly image?: string
  /** When a node fetches the image. @default the rule of the cluster: `:latest` always, others when missing */
  readonly pull?: 'missing' | 'always' | 'never'
  /** Port that the server listens on in its pod, from 1 to 65535. @default 8080 */
  readonly port?: number
  /**
   * `pod-ip`: connections go straight to the pods. `forward`: connections go through the API server, from anywhere.
   * @default 'pod-ip' in the cluster, 'forward' outside of it
   */
  readonly reach?: 'pod-ip' | 'forward'
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /** Labels of all pods. A label of the service replaces one of these. */
  readonly labels?: Readonly<Record<string, string>>
  /** Folder that instances run in. @default the folder of the image */
  readonly cwd?: string
  /** Service account of the pods. Its token is not mounted unless the template says so. */
  readonly serviceAccount?: string
  /** Merged into each pod: an object, or YAML or JSON. Lists whose items have names (containers, env) are merged by name. */
  readonly template?: KubernetesPodTemplate | string
  /** A workload whose replicas are set and whose ready pods are used. The provider then runs no pods of its own. */
  readonly scale?: { readonly kind: 'deployment' | 'statefulset'; readonly name: string }
  /** Whether the pods that a killed session left are deleted at the first start. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
  /**
   * A name for this program, if it runs only once at a time, on any machine. Then all that an earlier run left is deleted.
   * @default the process: only what dead processes of this machine left is deleted
   */
  readonly owner?: string
}

const NAME_RULE = text('a name', (value) => value !== '')
const LABEL_RULE = text(
  'a name of lower-case letters, digits, - and .',
  (value) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(value) && value.length <= 253,
)

/** Every option with its range and default. A test compares docs/kubernetes.md with this table. */
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
  port: portRule(8_080),
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
  adopt: ADOPT_RULE,
  owner: OWNER_RULE,
} as const

export type KubernetesSettings = ParsedOptions<typeof KUBERNETES_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseKubernetesOptions(options: KubernetesOptions): KubernetesSettings {
  return parseOptions('kubernetes', options, KUBERNETES_RULES)
}
