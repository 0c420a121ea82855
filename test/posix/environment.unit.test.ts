/** The environment that our programs inherit, and texts without passwords. */
import { expect, test } from 'vitest'
import {
  excludeFromChildren,
  inheritedEnvironment,
  redactPasswords,
} from '../../src/posix/environment.ts'

test.each([
  ['MANYHOST_TOKEN', 'x'],
  ['MANYHOST_TASKS_TOKEN', 'x'],
  ['MANYHOST_RUNNER_TOKEN', 'x'],
  ['MANYHOST_AGENT_KEY', 'x'],
  ['MANYHOST_FEED_SECRET', 'x'],
  ['HYPERSHELL_DATABASE_PASSWORD', 'x'],
  ['HYPERSHELL_SERVER_AUTH', 'x'],
  ['HPFEEDS_ALICE_SECRET', 'x'],
  ['MANYHOST_STORE', 'postgres://me:secret@db/jobs'],
  ['MANYHOST_STORE', 'host=db user=me password=secret'],
  ['MANYHOST_TASKS_SERVER', 'https://me:secret@server:8080'],
  ['MANYHOST_CLUSTER_STORE', 'postgresql://me:se@cret@db/jobs'],
])('%s=%s is not inherited', (name, value) => {
  expect(inheritedEnvironment({ [name]: value, HOME: '/h' })).toEqual({ HOME: '/h' })
})

test.each([
  ['PATH', '/bin'],
  ['PGPASSWORD', 'for psql'],
  ['API_TOKEN', 'of the user'],
  ['MANYHOST_STORE', '/home/me/tasks.db'],
  ['MANYHOST_STORE', 'postgres://me@db:5432/jobs'],
  ['MANYHOST_ADMIN', 'http://127.0.0.1:9090/x@y'],
  ['MANYHOST_SESSION', 'abc'],
  ['MANYHOST_EXPORT_MANYHOST_TASKS_TOKEN', 'named on purpose'],
  ['MANYHOST_AGENT_KEY_FILE', '/etc/key'],
  ['__proto__', 'x'],
])('%s=%s is inherited', (name, value) => {
  const env = JSON.parse(JSON.stringify({ x: 1 })) as Record<string, string>
  Object.defineProperty(env, name, { value, enumerable: true })
  expect(Object.entries(inheritedEnvironment(env))).toContainEqual([name, value])
})

test('a variable that was excluded is not inherited', () => {
  const env = { OUR_PASSPHRASE: 'x', OTHER: 'y' }
  expect(inheritedEnvironment(env)).toEqual(env)
  excludeFromChildren('OUR_PASSPHRASE')
  expect(inheritedEnvironment(env)).toEqual({ OTHER: 'y' })
})

test.each([
  ['cannot open postgres://me:s3cret@db/jobs: no', 'cannot open postgres://me:***@db/jobs: no'],
  ["got 'amqp://:s3cret@h'", "got 'amqp://:***@h'"],
  ['postgres://me:s3/cr?e#t@db', 'postgres://me:***@db'],
  ['host=db password=s3cret user=me', 'host=db password=*** user=me'],
  ['http://host:80/a@b and http://host/', 'http://host:80/a@b and http://host/'],
])('%s is said as %s', (text, said) => {
  expect(redactPasswords(text)).toBe(said)
})
