import { expect, test } from 'vitest'
import { parseTargetUrl } from '../../src/client/request.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'

expectNothingLeft()

function expected(text: string): unknown {
  try {
    const { protocol, origin, host, pathname, search, username, password } = new URL(text)
    if (!/^https?:$/.test(protocol) || username !== '' || password !== '') return 'refused'
    return { origin, host, path: pathname + search }
  } catch {
    return 'refused'
  }
}

function got(text: string): unknown {
  try {
    return parseTargetUrl(text)
  } catch (error) {
    return (error as { code: string }).code === 'MANYHOST_INVALID_URL' ? 'refused' : error
  }
}

const pieces = [
  'http://',
  'https://',
  'HTTP://',
  'ftp://',
  'calc',
  'CALC',
  'a_b',
  'a-b',
  'xn--nxasmq6b',
  '1.2.3',
  '0x7f',
  '127.1',
  '[::1]',
  'é',
  ':80',
  ':443',
  ':8080',
  ':0',
  ':080',
  ':65535',
  ':65536',
  ':',
  '/',
  '//',
  '/.',
  '/..',
  '/.a',
  '%2e',
  '%2E',
  '%2F',
  '%2f',
  '%',
  '%zz',
  '?',
  '?a=b',
  '&c',
  '#',
  '#f',
  '@',
  'u:p@',
  '\\',
  ' ',
  '\t',
  '\n',
  '"',
  "'",
  '<',
  '^',
  '`',
  '{',
  '|',
  '~',
  '!',
  '$',
  '*',
  '+',
  ',',
  ';',
  '=',
  '.',
  '..',
  'x',
  '\u0000',
  '\ud800',
  '☃',
]

test('a target is what the URL parser says', () => {
  const built = fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((all) => all.join(''))
  const urls = fc.oneof(
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    built.map((rest) => `http://calc${rest}`),
    built.map((rest) => `https://${rest}`),
    built,
    fc.string({ unit: 'binary' }).map((rest) => `http://calc/${rest}`),
    fc.string().map((host) => `http://${host}/`),
  )
  fc.assert(
    fc.property(urls, (url) => {
      expect(got(url)).toEqual(expected(url))
    }),
    { numRuns: 5_000 },
  )
})
