import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { alwaysQuoteShellWord, quoteShellWord } from '../../src/posix/shell-words.ts'

const texts = [
  '',
  'plain',
  "it's",
  "''",
  'a b\tc',
  '$HOME `id` $(id)',
  '*?[a]',
  '~',
  '#',
  '!!',
  'ä\n\n',
  '\\',
  '-n',
  'A=b',
]

test('the shell reads a quoted word as the text that it was made from', () => {
  for (const quote of [quoteShellWord, alwaysQuoteShellWord]) {
    const script = `printf '%s\\0' ${texts.map(quote).join(' ')}`
    expect(
      execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1),
    ).toEqual(texts)
  }
})

test('a word of safe characters is quoted only where that is asked for', () => {
  expect(quoteShellWord('/a/b-1.txt')).toBe('/a/b-1.txt')
  expect(alwaysQuoteShellWord('if')).toBe("'if'")
})
