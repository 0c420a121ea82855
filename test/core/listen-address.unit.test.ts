import { describe, expect, it } from 'vitest'
import {
  formatListenAddress,
  isLoopbackAddress,
  parseListenAddress,
  requireListenAddress,
} from '../../src/core/listen-address.ts'

describe('an address to listen on', () => {
  it.each<[unknown, object]>([
    ['10.0.0.1:8080', { host: '10.0.0.1', port: 8080 }],
    ['calc_1.example:1', { host: 'calc_1.example', port: 1 }],
    ['[::1]:8080', { host: '::1', port: 8080 }],
    ['[fe80::1%eth0]:80', { host: 'fe80::1%eth0', port: 80 }],
    ['[::ffff:10.0.0.1]:0', { host: '::ffff:10.0.0.1', port: 0 }],
    [':8080', { host: '127.0.0.1', port: 8080 }],
    [8080, { host: '127.0.0.1', port: 8080 }],
    [{ port: 8080 }, { host: '127.0.0.1', port: 8080 }],
    [
      { host: '::', port: 8080 },
      { host: '::', port: 8080 },
    ],
    ['*:8080', { host: '::', port: 8080 }],
    [
      { host: '*', port: 8080 },
      { host: '::', port: 8080 },
    ],
    ['0.0.0.0:8080', { host: '0.0.0.0', port: 8080 }],
    ['unix:/run/a b.sock', { path: '/run/a b.sock' }],
    [{ path: 'relative.sock' }, { path: 'relative.sock' }],
  ])('is %j', (given, expected) => {
    expect(parseListenAddress(given)).toEqual(expected)
  })

  it.each([
    '',
    ':',
    ':x',
    ':65536',
    ':-1',
    'host',
    'a b:1',
    '::1:80',
    '[1.2.3.4]:1',
    '[::g]:1',
    '**:1',
    'unix:',
    'unix:relative',
    `${'a'.repeat(300)}:1`,
    65_536,
    1.5,
    Number.NaN,
    true,
    null,
    undefined,
    [],
    {},
    { host: '' },
    { host: '', port: 1 },
    { host: 1, port: 1 },
    { port: '1' },
    { path: '' },
    { path: 1 },
  ])('is not %j', (given) => {
    expect(parseListenAddress(given)).toBeUndefined()
    expect(() => requireListenAddress('gateway: listen', given)).toThrow(
      /^gateway: listen must be 'host:port'.*, got /,
    )
  })

  it('tells whether only this machine can connect', () => {
    const isLocal = (given: unknown) => isLoopbackAddress(requireListenAddress('x', given))
    for (const local of [':1', 1, '127.0.0.5:1', 'localhost:1', '[::1]:1', 'unix:/x'])
      expect(isLocal(local), String(local)).toBe(true)
    for (const open of ['*:1', '0.0.0.0:1', '[::]:1', 'host.example:1', '10.0.0.1:1'])
      expect(isLocal(open), open).toBe(false)
  })

  it('has a text that is read as the same address', () => {
    for (const text of ['127.0.0.1:8080', '[::1]:8080', 'unix:/run/x.sock', 'host:0'])
      expect(formatListenAddress(requireListenAddress('x', text))).toBe(text)
  })
})
