/** `check` and `init`: commands about a file. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFolder, fleetYaml, runManyhost } from './help.ts'

describe('manyhost check', () => {
  it('finds a right file right', async () => {
    const cwd = createFolder({ 'fleet.yaml': fleetYaml() })
    expect(await runManyhost(['check'], { cwd })).toEqual({
      code: 0,
      stdout: 'fleet.yaml is valid: http://calc\n',
      stderr: '',
    })
  })

  it('reports all errors, each with its line', async () => {
    const text = 'services:\n  http://calc:\n    comand: [node]\n    concurrency: 0\n'
    const cwd = createFolder({ 'fleet.yaml': text })
    const { code, stdout, stderr } = await runManyhost(['check', 'fleet.yaml'], { cwd })
    expect(stderr).toContain('fleet.yaml:3:5')
    expect(stderr).toContain("did you mean 'command'?")
    expect(stderr).toContain('fleet.yaml:4:18')
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    const json = await runManyhost(['check', '--json'], { cwd })
    const { problems } = JSON.parse(json.stdout)
    expect(problems.map(({ line }: { line: number }) => line)).toContain(4)
    expect(json.code).toBe(3)
  })

  it('holds a file against the gateway and the providers as well', async () => {
    // Each is right, and together they would open the service to every page that its users look at.
    const more = '    gateway: { cors: { origins: ["*"], credentials: true } }'
    const providers = 'providers: { p: { type: process, ports: [2, 1] } }\n'
    const cwd = createFolder({
      'a.yaml': fleetYaml({ more }),
      'b.yaml': fleetYaml() + providers,
    })
    const a = await runManyhost(['check', 'a.yaml'], { cwd })
    expect(a.stderr).toContain('credentials need a list of origins')
    const b = await runManyhost(['check', 'b.yaml'], { cwd })
    expect(b.stderr).toContain('ports must be')
    expect([a.code, b.code]).toEqual([3, 3])
  })

  it('says that there is no file', async () => {
    const { code, stderr } = await runManyhost(['check'], { cwd: createFolder() })
    expect(stderr).toBe(
      "manyhost: fleet.yaml: there is no such file; name another, or write one with 'manyhost init'\n",
    )
    expect(code).toBe(3)
  })

  it('prints the schema', async () => {
    const { stdout } = await runManyhost(['check', '--schema'])
    expect(JSON.parse(stdout)).toHaveProperty('properties.services')
  })
})

describe('manyhost init', () => {
  it('writes a valid file, and overwrites none', async () => {
    const cwd = createFolder()
    const first = await runManyhost(['init'], { cwd })
    expect(first.stdout).toContain('wrote fleet.yaml')
    expect((await runManyhost(['check'], { cwd })).code).toBe(0)
    const again = await runManyhost(['init'], { cwd })
    expect(again.stderr).toBe(
      'manyhost: cannot write fleet.yaml: the file exists; --force overwrites it\n',
    )
    expect(again.code).toBe(1)
    expect((await runManyhost(['init', '--force'], { cwd })).code).toBe(0)
    expect(readFileSync(join(cwd, 'fleet.yaml'), 'utf8')).toContain('services:')
  })

  it('says why it cannot write', async () => {
    const { code, stderr } = await runManyhost(['init', 'no/such/folder/fleet.yaml'], {
      cwd: createFolder(),
    })
    expect(stderr).toMatch(/^manyhost: cannot write no\/such\/folder\/fleet.yaml: ENOENT.*\n$/)
    expect(code).toBe(1)
  })
})
