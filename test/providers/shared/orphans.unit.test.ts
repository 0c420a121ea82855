/** The resources that killed sessions left, and their owners. */
import { expect, test } from 'vitest'
import { isOrphan, removeAll } from '../../../providers/shared/orphans.ts'
import { isDead, processIdentity } from '../../../src/posix/identity.ts'
import { rejectionOf } from '../../help.ts'

const mine = { session: 's', owner: undefined }
const own = processIdentity()
const [machine, pid, begun] = own.split(':')

test('a running process is not dead; an ended one is, also if its pid was given to another process', () => {
  expect(isDead(own)).toBe(false)
  expect(isDead(`${machine}:4194999:1`)).toBe(true)
  expect(isDead(`${machine}:${pid}:${Number(begun) - 1}`)).toBe(true)
})

test('a process of another machine is never known to be dead', () => {
  expect(isDead(`0123456789abcdef:4194999:1`)).toBe(false)
  for (const odd of ['', 'a', 'a:b', `${machine}:-1:1`, `${machine}::`]) {
    expect(isDead(odd)).toBe(false)
  }
})

test('with an owner, the resources of an earlier run of that owner are orphans', () => {
  const named = { session: 's', owner: 'shop' }
  expect(isOrphan({ session: 'other', owner: 'shop' }, named)).toBe(true)
  expect(isOrphan({ session: 's', owner: 'shop' }, named)).toBe(false)
  expect(isOrphan({ session: 'other', owner: 'mail' }, named)).toBe(false)
  expect(isOrphan({ session: undefined, owner: '' }, named)).toBe(false)
  expect(isOrphan({ session: 'other', owner: own }, mine)).toBe(false)
  expect(isOrphan({ session: 'other', owner: `${machine}:4194999:1` }, mine)).toBe(true)
})

test('all items are removed, and a failure rejects', async () => {
  const removed: number[] = []
  const all = Array.from({ length: 40 }, (_, i) => i)
  await removeAll(all, async (one) => void removed.push(one))
  expect(removed.sort((a, b) => a - b)).toEqual(all)
  const stubborn = removeAll([1, 2], async (one) => {
    if (one === 2) throw new Error('it is busy')
  })
  expect((await rejectionOf(stubborn)).message).toBe('it is busy')
})
