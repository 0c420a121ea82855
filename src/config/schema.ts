/** JSON Schema of a fleet file, made from the rules that also check it. Pure. */
import type { Form, NumberForm, Rule, Rules } from '../core/options.ts'
import type { SECTIONS } from './config.ts'
import { rangeOf } from './read.ts'
import {
  ADMIN_RULES,
  FEED_RULES,
  GATEWAY_RULES,
  LOG_RULES,
  SERVICE_GATEWAY_RULES,
  SESSION_FILE_RULES,
} from './rules.ts'
import { SERVICE_FILE_RULES } from './services.ts'
import { BALANCERS, balancerRules } from './size.ts'
import { BYTES_PATTERN, DURATION_PATTERN } from './units.ts'

type Json = { readonly [key: string]: unknown }

const SUBSTITUTED = { $ref: '#/$defs/substituted' }

/** JSON Schema, draft 2020-12, of `fleet.yaml`: for editors, and for whoever makes such files. */
export function jsonSchema(): Json {
  const sections: Record<(typeof SECTIONS)[number], Json> = {
    services: services(),
    providers: {
      description: 'Where instances run, by name.',
      type: ['object', 'null'],
      additionalProperties: {
        type: 'object',
        properties: { type: { type: 'string', description: 'process, static, ...' } },
      },
    },
    session: options(SESSION_FILE_RULES),
    gateway: options(GATEWAY_RULES),
    admin: { anyOf: [{ const: false }, options(ADMIN_RULES)] },
    feed: options(FEED_RULES),
    log: options(LOG_RULES),
  }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'manyhost fleet',
    type: 'object',
    properties: sections,
    // For anchors.
    patternProperties: { '^x-': true },
    additionalProperties: false,
    required: ['services'],
    $defs: {
      substituted: {
        type: 'string',
        pattern: '\\$\\{[^{}]+\\}',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
        description: '${NAME}, ${NAME:-default} or ${file:path}',
      },
    },
  }
}

function services(): Json {
  const service = options(SERVICE_FILE_RULES)
  return {
    description: 'Services by virtual URL, such as http://calc.',
    type: ['object', 'null'],
    propertyNames: { pattern: '^[hH][tT][tT][pP][sS]?://[^?#@]+$' },
    additionalProperties: {
      ...service,
      properties: {
        ...(service.properties as Json),
        size: size(),
        gateway: options(SERVICE_GATEWAY_RULES),
      },
    },
  }
}

function size(): Json {
  return {
    description: "How many instances: 3, '1..8', or a load balancer with its settings.",
    anyOf: [
      { type: 'integer', minimum: 0 },
      { type: 'string', pattern: '^\\d+ ?\\.\\. ?(\\d+)?$' },
      SUBSTITUTED,
      ...BALANCERS.map((name) => {
        const { properties, ...schema } = options(balancerRules(name))
        const balancer = { const: name }
        const required = name === 'queue-length' ? [] : ['balancer']
        return {
          ...schema,
          type: 'object',
          properties: { balancer, ...(properties as Json) },
          required,
        }
      }),
    ],
  }
}

/** A key with nothing below it counts as an empty mapping, as long as nothing in it is required. */
function options(rules: Rules, required: readonly string[] = []): Json {
  const properties = Object.entries(rules).flatMap(([name, rule]) =>
    rule.form ? [[name, schemaOf(rule, rule.form)]] : [],
  )
  return {
    type: required.length > 0 ? 'object' : ['object', 'null'],
    properties: Object.fromEntries(properties),
    additionalProperties: false,
    ...(required.length > 0 && { required }),
  }
}

function schemaOf(rule: Rule<unknown>, form: Form): Json {
  const { initial } = rule
  const shown = ['string', 'boolean'].includes(typeof initial) || Number.isFinite(initial)
  return {
    description: rangeOf(rule),
    ...(shown && { default: initial }),
    ...formSchema(form),
  }
}

function formSchema(form: Form): Json {
  switch (form.is) {
    case 'number':
      return { anyOf: numbers(form) }
    case 'text':
      return { type: 'string' }
    case 'choice':
      return { anyOf: [{ enum: form.names }, SUBSTITUTED] }
    case 'flag':
      return { anyOf: [{ type: 'boolean' }, SUBSTITUTED] }
    case 'list':
      return { type: 'array', items: each(form.of), ...(form.least && { minItems: form.least }) }
    case 'record':
      return { type: 'object', additionalProperties: each(form.of) }
    case 'options':
      return options(form.rules, form.required)
    case 'either':
      return { anyOf: form.forms.map(formSchema) }
    case 'tree':
      return { type: 'object' }
  }
}

/** In lists and records of texts, `8080` and `true` are texts too. */
function each(of: Rule<unknown>): Json {
  if (of.form?.is !== 'text') return of.form ? formSchema(of.form) : {}
  return { type: ['string', 'number', 'boolean'] }
}

function numbers({ min, max, above, whole, unlimited, unit }: NumberForm): Json[] {
  const least = above ? { exclusiveMinimum: min } : { minimum: min }
  const most = max === undefined || max === Number.MAX_SAFE_INTEGER ? {} : { maximum: max }
  return [
    { type: whole ? 'integer' : 'number', ...least, ...most },
    ...(unit === 'ms' ? [{ type: 'string', pattern: DURATION_PATTERN }] : []),
    ...(unit === 'bytes' ? [{ type: 'string', pattern: BYTES_PATTERN }] : []),
    ...(unlimited ? [{ enum: ['unlimited', 'Infinity'] }] : []),
    SUBSTITUTED,
  ]
}
