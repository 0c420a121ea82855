import { readFileSync } from 'node:fs'
import type { V1Pod } from '@kubernetes/client-node'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { isKubernetesUnreachable, kubernetesStatusOf } from '../../../providers/kubernetes/api.ts'
import { kubernetes } from '../../../providers/kubernetes/index.ts'
import { isLabelName, isLabelValue, podName } from '../../../providers/kubernetes/names.ts'
import {
  KUBERNETES_RULES,
  type KubernetesOptions,
  parseKubernetesOptions,
} from '../../../providers/kubernetes/options.ts'
import { sortableTimeOf } from '../../../providers/kubernetes/pod-logs.ts'
import { buildPodManifest } from '../../../providers/kubernetes/pod-manifest.ts'
import {
  exitOfPod,
  isContainerRunning,
  isPodReady,
  leavingReason,
  permanentWaitReason,
  unschedulableReason,
} from '../../../providers/kubernetes/pod-status.ts'
import { isOrphanPod } from '../../../providers/kubernetes/sweep.ts'
import { mergeTemplates, readTemplate } from '../../../providers/kubernetes/template.ts'
import { loadConfig } from '../../../src/config/config.ts'
import { ManyhostError } from '../../../src/core/errors.ts'
import { catchThrown } from '../../help.ts'
import { specOf } from '../process-help.ts'

function pod(status: object, more: object = {}): V1Pod {
  return { metadata: { name: 'p' }, spec: { containers: [] }, status, ...more } as V1Pod
}

const of = (state: object, more: object = {}) =>
  pod({ containerStatuses: [{ name: 'server', state }], ...more })

describe('why a pod ended', () => {
  it.each<[string, V1Pod, string, RegExp]>([
    ['by itself', of({ terminated: { exitCode: 3 } }), 'exited', /^exit code 3$/],
    ['well', of({ terminated: { exitCode: 0, reason: 'Completed' } }), 'exited', /^exit code 0$/],
    ['by a signal', of({ terminated: { exitCode: 137, reason: 'Error' } }), 'killed', /SIGKILL/],
    ['by one that is named', of({ terminated: { exitCode: 0, signal: 15 } }), 'killed', /SIGTERM/],
    [
      'out of memory',
      of({ terminated: { exitCode: 137, reason: 'OOMKilled' } }),
      'out-of-memory',
      /out of memory.*limit 64 bytes/,
    ],
    [
      'never begun',
      of({ terminated: { exitCode: 128, reason: 'StartError', message: 'no such file' } }),
      'exited',
      /exit code 128: no such file/,
    ],
    [
      'evicted, whatever its exit code',
      of(
        { terminated: { exitCode: 137 } },
        { phase: 'Failed', reason: 'Evicted', message: 'disk' },
      ),
      'lost',
      /Evicted: disk/,
    ],
    ['for no reason that is told', pod({ phase: 'Failed' }), 'lost', /Failed/],
    [
      'with its node',
      pod({
        conditions: [
          { type: 'Ready', status: 'False' },
          { type: 'ContainersReady', status: 'True' },
        ],
      }),
      'lost',
      /node/,
    ],
  ])('%s', (_, one, reason, detail) => {
    const exit = exitOfPod(one, 'server', 64)
    expect(exit?.reason).toBe(reason)
    expect(exit?.detail).toMatch(detail)
  })

  it('has not ended', () => {
    for (const one of [
      pod({}),
      pod({ phase: 'Pending' }),
      of({ waiting: { reason: 'ContainerCreating' } }),
      of({ running: {} }, { phase: 'Running' }),
      // Another container of the pod is none of ours.
      pod({ containerStatuses: [{ name: 'beside', state: { terminated: { exitCode: 1 } } }] }),
      pod({ conditions: [{ type: 'Ready', status: 'False', reason: 'ContainersNotReady' }] }),
    ]) {
      expect(exitOfPod(one, 'server', undefined)).toBeUndefined()
    }
  })

  it('a readiness gate of its own says nothing of its node', () => {
    const conditions = [
      { type: 'Ready', status: 'False', reason: 'ReadinessGatesNotReady' },
      { type: 'ContainersReady', status: 'True' },
    ]
    expect(exitOfPod(pod({ conditions }), 'server', undefined)).toBeUndefined()
  })
})

describe('in a fleet file', () => {
  const types = { providers: { kubernetes: { rules: KUBERNETES_RULES } } }

  it('a template is a mapping, or text, with values of the environment in it', () => {
    const manifest = parse(readFileSync('examples/deploy/kubernetes/config.yaml', 'utf8'))
    const env = { MANYHOST_TOKEN: 'x'.repeat(32), POD_NAME: 'manyhost-0', POD_UID: '12' }
    const text = manifest.data['fleet.yaml']
    const { providers } = loadConfig({ text, path: '/fleet.yaml' }, env, types)
    const settings = parseKubernetesOptions(providers.pods?.options ?? {})
    expect(settings.template?.metadata).toEqual({
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'manyhost-0', uid: '12' }],
    })
    const written = 'providers: { pods: { type: kubernetes, template: "spec: { priority: 1 }" } }'
    const other = loadConfig({ text: `${written}\nservices: {}`, path: '/fleet.yaml' }, {}, types)
    expect(other.providers.pods?.options.template).toBe('spec: { priority: 1 }')
  })

  it('what is no template is refused at its place', () => {
    const text = 'services: {}\nproviders:\n  pods: { type: kubernetes, template: { specs: {} } }'
    expect(() => loadConfig({ text, path: '/fleet.yaml' }, {}, types)).toThrow(
      /3:\d+: providers.pods.template must be a pod or its parts.*got a mapping/,
    )
  })
})

describe('what a pod is about', () => {
  it('is about to go', () => {
    const deletionTimestamp = new Date(0)
    expect(leavingReason(pod({}, { metadata: { deletionTimestamp } }))).toMatch(/deleted/)
    const conditions = [
      { type: 'DisruptionTarget', status: 'True', reason: 'PreemptionByScheduler' },
    ]
    expect(leavingReason(pod({ conditions }))).toMatch(/Preemption/)
    expect(leavingReason(pod({}))).toBeUndefined()
  })

  it('will never start, or may still', () => {
    const waiting = (reason: string) => of({ waiting: { reason, message: 'why' } })
    expect(permanentWaitReason(waiting('ImagePullBackOff'), 'server')).toBe('ImagePullBackOff: why')
    expect(permanentWaitReason(waiting('CreateContainerConfigError'), 'server')).toMatch(/why/)
    expect(permanentWaitReason(waiting('ErrImagePull'), 'server')).toBeUndefined()
    expect(permanentWaitReason(waiting('ContainerCreating'), 'server')).toBeUndefined()
    const conditions = [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes' }]
    expect(unschedulableReason(pod({ conditions }))).toBe('0/3 nodes')
  })

  it('runs when its container does, and it has an address', () => {
    expect(isContainerRunning(of({ running: {} }, { podIP: '10.0.0.1' }), 'server')).toBe(true)
    expect(isContainerRunning(of({ running: {} }), 'server')).toBe(false)
    const conditions = [{ type: 'Ready', status: 'True' }]
    expect(isPodReady(pod({ conditions }))).toBe(true)
    const metadata = { deletionTimestamp: new Date(0) }
    expect(isPodReady(pod({ conditions }, { metadata }))).toBe(false)
  })
})

describe('names', () => {
  it('are such as a host name may be, and stay apart', () => {
    expect(podName('calc-1a-2')).toBe('manyhost-calc-1a-2')
    for (const id of ['Calc_1', 'a b', 'x'.repeat(200), 'ends-', 'ä']) {
      expect(podName(id)).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$/)
    }
    const many = ['A', 'a', 'a_', 'a.', 'x'.repeat(100), 'x'.repeat(101)].map(podName)
    expect(new Set(many).size).toBe(many.length)
  })

  it('of labels', () => {
    expect(['', 'a', 'A.b_c-1'].every(isLabelValue)).toBe(true)
    expect(['a b', '-a', 'a-', 'x'.repeat(64), 'ä'].some(isLabelValue)).toBe(false)
    expect(['team', 'example.com/team'].every(isLabelName)).toBe(true)
    expect(['', '/x', 'a b', 'A_/x', 'x/'].some(isLabelName)).toBe(false)
  })
})

describe('the pod', () => {
  const wanted = (options: KubernetesOptions, part: Parameters<typeof specOf>[0] = {}) =>
    buildPodManifest({
      spec: specOf({ command: ['serve', '$(HOME)', '$$x'], ...part }),
      settings: parseKubernetesOptions(options),
      image: 'i',
      session: 's',
      owner: 'a:1:2',
      env: { PORT: '8080', PRICE: '$(PORT) $5' },
    })

  it('takes words as they are', () => {
    const [container] = wanted({}).spec?.containers ?? []
    expect([container?.command, container?.args]).toEqual([['serve'], ['$$(HOME)', '$$$$x']])
    expect(container?.env).toContainEqual({ name: 'PRICE', value: '$$(PORT) $$5' })
  })

  it('has limits, and asks for as much', () => {
    const [container] =
      wanted({}, { resources: { cpus: 0.25, memory: 1_000.4 } }).spec?.containers ?? []
    const limits = { cpu: '250m', memory: '1000' }
    expect(container?.resources).toEqual({ limits, requests: limits })
  })

  it('is not restarted, has no rights, and does not stay long with a lost node', () => {
    const { spec } = wanted({})
    expect(spec).toMatchObject({ restartPolicy: 'Never', automountServiceAccountToken: false })
    expect(spec?.tolerations?.map(({ tolerationSeconds }) => tolerationSeconds)).toEqual([10, 10])
  })

  it('keeps what a template may not change', () => {
    const { metadata, spec } = wanted({
      template: {
        metadata: { name: 'mine', labels: { 'manyhost/session': 'x', team: 'blue' } },
        spec: {
          restartPolicy: 'Always',
          containers: [{ name: 'server', env: [{ name: 'PORT', value: '1' }] }],
        },
      },
    })
    expect(metadata?.name).toMatch(/^manyhost-/)
    expect(metadata?.labels).toMatchObject({ 'manyhost/session': 's', team: 'blue' })
    expect(spec?.restartPolicy).toBe('Never')
    expect(spec?.containers[0]?.env?.find(({ name }) => name === 'PORT')?.value).toBe('8080')
  })

  it('has labels that a label may be, and all of them in an annotation', () => {
    const { metadata } = wanted({ labels: { team: 'red' } }, { labels: { purpose: 'a test' } })
    expect(metadata?.labels).toMatchObject({ team: 'red' })
    expect(metadata?.labels?.purpose).toBeUndefined()
    expect(JSON.parse(metadata?.annotations?.['manyhost/labels'] ?? '')).toEqual({
      team: 'red',
      purpose: 'a test',
    })
  })
})

describe('a template', () => {
  it('is laid over: mappings and what has names are merged, null removes, the rest is replaced', () => {
    const base = { a: { b: 1, c: 2 }, list: [1, 2], named: [{ name: 'x', v: 1 }, { name: 'y' }] }
    const over = { a: { b: null, d: 3 }, list: [9], named: [{ name: 'z' }, { name: 'x', w: 2 }] }
    expect(mergeTemplates(base, over)).toEqual({
      a: { c: 2, d: 3 },
      list: [9],
      named: [{ name: 'x', v: 1, w: 2 }, { name: 'y' }, { name: 'z' }],
    })
    expect(base.named).toHaveLength(2)
  })

  it('is read from YAML, JSON, a Pod or a PodTemplate', () => {
    const spec = { hostNetwork: true }
    for (const given of [
      'spec: { hostNetwork: true }',
      '{"spec":{"hostNetwork":true}}',
      { kind: 'Pod', apiVersion: 'v1', spec },
      { kind: 'PodTemplate', template: { spec } },
    ]) {
      expect(readTemplate(given)).toEqual({ spec })
    }
    for (const given of ['x', '[', '{}', 'a: 1', { kind: 'Job', spec }, { spec: 3 }, [], null, 1]) {
      expect(readTemplate(given)).toBeUndefined()
    }
  })
})

it.each<[Record<string, unknown>, RegExp]>([
  [{ nope: 1 }, /unknown option 'nope'/],
  [{ namespace: 'Upper' }, /namespace must be a name of lower-case/],
  [{ port: 70_000 }, /port must be a whole number from 1 to 65535, got 70000/],
  [{ reach: 'magic' }, /reach must be 'pod-ip', 'forward'/],
  [{ template: 'kind: Job' }, /template must be a pod or its parts/],
  [{ scale: { kind: 'job', name: 'x' } }, /kind must be 'deployment', 'statefulset'/],
  [{ image: '--privileged' }, /image must be a name of an image/],
  [{ owner: 'a b' }, /owner must be letters/],
])('refuses %j', (options, message) => {
  const error = catchThrown(() => kubernetes(options))
  expect(error.code).toBe('MANYHOST_INVALID_OPTION')
  expect(error.message).toMatch(message)
})

it('knows an API server that cannot be reached from one that says no', () => {
  const refused = Object.assign(new Error('x'), { code: 'ECONNREFUSED' })
  expect(isKubernetesUnreachable(refused)).toBe(true)
  expect(
    isKubernetesUnreachable(new ManyhostError('MANYHOST_START_FAILED', 'x', { cause: refused })),
  ).toBe(true)
  const answer = (code: number, body = '') => Object.assign(new Error('x'), { code, body })
  for (const code of [429, 502, 503, 504]) expect(isKubernetesUnreachable(answer(code))).toBe(true)
  expect(isKubernetesUnreachable(answer(500, 'etcdserver: leader changed'))).toBe(true)
  for (const code of [400, 403, 404, 409, 500])
    expect(isKubernetesUnreachable(answer(code))).toBe(false)
  expect(
    kubernetesStatusOf(new ManyhostError('MANYHOST_START_FAILED', 'x', { cause: answer(409) })),
  ).toBe(409)
  expect(kubernetesStatusOf(refused)).toBeUndefined()
})

it('moments sort as text, however many digits they have', () => {
  const times = ['2024-01-01T00:00:00Z', '2024-01-01T00:00:00.1Z', '2024-01-01T00:00:00.100000001Z']
  const moments = times.map(sortableTimeOf)
  expect([...moments].sort()).toEqual(moments)
  expect(sortableTimeOf('2024-01-01T02:00:00+02:00')).toBe(sortableTimeOf(times[0] ?? ''))
  expect(sortableTimeOf('no time')).toBeUndefined()
})

it('what is left is that of a dead process, or of the same owner', () => {
  const left = (session: string | undefined, owner: string, more = {}) =>
    isOrphanPod(
      {
        metadata: {
          labels: session === undefined ? {} : { 'manyhost/session': session },
          annotations: { 'manyhost/owner': owner },
          ...more,
        },
      },
      { session: 'me', owner: 'shop' },
    )
  expect(left('other', 'shop')).toBe(true)
  expect(left('me', 'shop')).toBe(false)
  expect(left(undefined, 'shop')).toBe(false)
  expect(left('other', 'another:1:1')).toBe(false)
  expect(left('other', 'shop', { deletionTimestamp: new Date(0) })).toBe(false)
})

it('every option has a row in docs/kubernetes.md', () => {
  const text = readFileSync(new URL('../../../docs/kubernetes.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name)
  expect(rows.sort()).toEqual(Object.keys(KUBERNETES_RULES).sort())
})
