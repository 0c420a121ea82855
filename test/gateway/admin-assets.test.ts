/** The dashboard's files: all there, all asked for by the page, nothing from elsewhere, nothing that makes markup. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ASSETS } from '../../src/gateway/dashboard/assets.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { openAdminFixture } from './admin-fixture.ts'

expectNothingLeft()

const folder = new URL('../../src/gateway/dashboard/', import.meta.url)
const files = readdirSync(folder).filter((file) => !file.endsWith('.ts'))
const read = (file: string): string => readFileSync(new URL(file, folder), 'utf8')

test('each file is served with its type, and there are no others', async () => {
  expect(files.toSorted()).toEqual(
    Object.values(ASSETS)
      .map(([file]) => file)
      .toSorted(),
  )
  await using served = await openAdminFixture()
  for (const [path, [file, type]] of Object.entries(ASSETS)) {
    const { status, headers, text } = await served.ask(path)
    expect([status, headers['content-type'], text], path).toEqual([200, type, read(file)])
  }
})

test('the page needs nothing from elsewhere, and no inline script or style', () => {
  for (const file of files) {
    const text = read(file).replaceAll('http://www.w3.org/2000/svg', '')
    expect(text, file).not.toMatch(/https?:\/\/[a-z]|@import|url\(/)
    if (file.endsWith('.html'))
      expect(text).not.toMatch(/ style=| on\w+=|<script(?![^>]* src=)|<style/)
  }
})

test('text stays text', () => {
  for (const file of files.filter((name) => name.endsWith('.js'))) {
    expect(read(file), file).not.toMatch(
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/,
    )
  }
})
