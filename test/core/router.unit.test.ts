import { expect, test } from 'vitest'
import { allowedMethods, Router } from '../../src/core/http/router.ts'

const router = new Router([
  { method: 'GET', path: '/jobs' },
  { method: 'GET', path: '/jobs/{id}' },
  { method: 'DELETE', path: '/jobs/{id}' },
  { method: 'GET', path: '/jobs/{id}/log' },
])

const found = (path: string) =>
  router.match(path)?.map(({ route, params }) => [route.method, route.path, params])

test('a path has one match for each of its methods', () => {
  expect(found('/jobs/a')).toEqual([
    ['GET', '/jobs/{id}', { id: 'a' }],
    ['DELETE', '/jobs/{id}', { id: 'a' }],
  ])
  expect(found('/jobs')).toEqual([['GET', '/jobs', {}]])
})

test('a segment is percent-decoded after the path was split', () => {
  expect(found('/jobs/a%2Fb/log')).toEqual([['GET', '/jobs/{id}/log', { id: 'a/b' }]])
})

test.each(['/', '', '/job', '/jobs/', '/jobs//log', '/jobs/a/b', '//jobs'])(
  '%j has no match',
  (path) => {
    expect(found(path)).toEqual([])
  },
)

test('a path that cannot be decoded is told apart from one without a match', () => {
  expect(router.match('/jobs/%zz')).toBeUndefined()
})

test('a name of an object prototype is a value like any other', () => {
  expect(found('/jobs/__proto__')?.[0]?.[2]).toEqual({ id: '__proto__' })
})

test('Allow has HEAD where GET is, and OPTIONS always', () => {
  expect(allowedMethods(['GET', 'PUT'])).toBe('GET, PUT, HEAD, OPTIONS')
  expect(allowedMethods(['POST'])).toBe('POST, OPTIONS')
})
