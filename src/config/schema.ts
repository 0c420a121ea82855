/** The JSON Schema of a fleet file, made from the rules that also check the file. Pure. */
import type { Form, NumberForm, Rule, Rules } from '../core/options.ts'
import { BYTES_PATTERN, DURATION_PATTERN } from '../core/units.ts'
import { ADMIN_RULES } from '../gateway/admin/options.ts'
import { ROUTE_OPTION_RULES } from '../gateway/route-options.ts'
import type { SECTION_NAMES } from './config.ts'
import { describeRange } from './read-fields.ts'
import { FEED_FILE_RULES, GATEWAY_FILE_RULES, LOG_RULES, SESSION_FILE_RULES } from './rules.ts'
import { SERVICE_FILE_RULES } from './services.ts'
import { BALANCER_NAMES, balancerRules } from './size.ts'

type FleetSchema = { readonly [key: string]: unknown }

const SUBSTITUTED = { $ref: '#/$defs/substituted' }

/** JSON Schema (draft 2020-12) of `fleet.yaml`, for editors and for programs that write such files. */
export function buildFleetSchema(): FleetSchema {
  const sections: Record<(typeof SECTION_NAMES)[number], FleetSchema> = {
    services: servicesSchema(),
    providers: {
      description: 'Where instances run, by name.',
      type: ['object', 'null'],
      additionalProperties: {
        type: 'object',
        properties: { type: { type: 'string', description: 'process, static, ...' } },
      },
    },
    session: optionsSchema(SESSION_FILE_RULES),
    gateway: optionsSchema(GATEWAY_FILE_RULES),
    admin: { anyOf: [{ const: false }, optionsSchema(ADMIN_RULES)] },
    feed: optionsSchema(FEED_FILE_RULES),
    log: optionsSchema(LOG_RULES),
  }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'manyhost fleet',
    type: 'object',
    properties: sections,
    // Left to users, for anchors.
    patternProperties: { '^x-': true },
    additionalProperties: false,
    required: ['services'],
    $defs: {
      substituted: {
        type: 'string',
        pattern: '\\$\\{[^{}]+\\}',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the file is written so
        description: '${NAME}, ${NAME:-default} or ${file:path}',
      },
    },
  }
}

function servicesSchema(): FleetSchema {
  const service = optionsSchema(SERVICE_FILE_RULES)
  return {
    description: 'Services by virtual URL, such as http://calc.',
    type: ['object', 'null'],
    propertyNames: { pattern: '^[hH][tT][tT][pP][sS]?://[^?#@]+$' },
    additionalProperties: {
      ...service,
      properties: {
        ...(service.properties as FleetSchema),
        size: sizeSchema(),
        gateway: optionsSchema(ROUTE_OPTION_RULES),
      },
    },
  }
}

function sizeSchema(): FleetSchema {
  return {
    description: "How many instances: 3, '1..8', or a load balancer with its settings.",
    anyOf: [
      { type: 'integer', minimum: 0 },
      { type: 'string', pattern: '^\\d+ ?\\.\\. ?(\\d+)?$' },
      SUBSTITUTED,
      ...BALANCER_NAMES.map((name) => {
        const { properties, ...schema } = optionsSchema(balancerRules(name))
        const balancer = { const: name }
        const required = name === 'queue-length' ? [] : ['balancer']
        return {
          ...schema,
          type: 'object',
          properties: { balancer, ...(properties as FleetSchema) },
          required,
        }
      }),
    ],
  }
}

/** A key with nothing below it counts as an empty mapping, unless a key in it is required. */
function optionsSchema(rules: Rules, required: readonly string[] = []): FleetSchema {
  const properties = Object.entries(rules).flatMap(([name, rule]) =>
    rule.form ? [[name, ruleSchema(rule, rule.form)]] : [],
  )
  return {
    type: required.length > 0 ? 'object' : ['object', 'null'],
    properties: Object.fromEntries(properties),
    additionalProperties: false,
    ...(required.length > 0 && { required }),
  }
}

function ruleSchema(rule: Rule<unknown>, form: Form): FleetSchema {
  const { initial } = rule
  const shown = ['string', 'boolean'].includes(typeof initial) || Number.isFinite(initial)
  return {
    description: describeRange(rule),
    ...(shown && { default: initial }),
    ...formSchema(form),
  }
}

function formSchema(form: Form): FleetSchema {
  switch (form.is) {
    case 'number':
      return { anyOf: numberSchemas(form) }
    case 'text':
      return { type: 'string' }
    case 'choice':
      return { anyOf: [{ enum: form.names }, SUBSTITUTED] }
    case 'flag':
      return { anyOf: [{ type: 'boolean' }, SUBSTITUTED] }
    case 'list':
      return {
        type: 'array',
        items: itemSchema(form.of),
        ...(form.minItems && { minItems: form.minItems }),
      }
    case 'record':
      return { type: 'object', additionalProperties: itemSchema(form.of) }
    case 'options':
      return optionsSchema(form.rules, form.required)
    case 'either':
      return { anyOf: form.forms.map(formSchema) }
    case 'tree':
      return { type: 'object' }
  }
}

/** In lists and records of texts, `8080` and `true` are texts too. */
function itemSchema(of: Rule<unknown>): FleetSchema {
  if (of.form?.is !== 'text') return of.form ? formSchema(of.form) : {}
  return { type: ['string', 'number', 'boolean'] }
}

function numberSchemas({
  min,
  max,
  exclusiveMin,
  whole,
  unlimited,
  unit,
}: NumberForm): FleetSchema[] {
  const lower = exclusiveMin ? { exclusiveMinimum: min } : { minimum: min }
  const upper = max === undefined || max === Number.MAX_SAFE_INTEGER ? {} : { maximum: max }
  return [
    { type: whole ? 'integer' : 'number', ...lower, ...upper },
    ...(unit === 'ms' ? [{ type: 'string', pattern: DURATION_PATTERN }] : []),
    ...(unit === 'bytes' ? [{ type: 'string', pattern: BYTES_PATTERN }] : []),
    ...(unlimited ? [{ enum: ['unlimited', 'Infinity'] }] : []),
    SUBSTITUTED,
  ]
}
