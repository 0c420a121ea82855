/** `manyhost logs`: prints the output of instances. */
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { EXIT } from './exit.ts'
import { abortOnInterrupt } from './interrupt.ts'
import { write } from './terminal.ts'

interface LogsFlags extends AdminFlags {
  readonly follow?: boolean
  readonly lines?: number
}

export async function run(
  [name = '', instance]: readonly (string | undefined)[],
  options: LogsFlags,
): Promise<number> {
  const admin = new AdminClient(options)
  const query = new URLSearchParams()
  if (options.follow) query.set('follow', '1')
  if (options.lines) query.set('lines', String(options.lines))
  const instancePath = instance === undefined ? '' : `/instances/${encodeURIComponent(instance)}`
  const interruption = options.follow ? abortOnInterrupt() : undefined
  interruption?.signal.addEventListener('abort', () => void admin.close())
  try {
    const { body } = await admin.requestOk(clusterPath(name, `${instancePath}/logs?${query}`), {
      isStreaming: options.follow === true,
    })
    // The output is printed as it is, with colours: the user of this command owns the instance.
    for await (const chunk of body) await write(chunk)
  } catch (error) {
    if (!interruption?.signal.aborted) throw error
  } finally {
    await admin.close()
  }
  return interruption?.code() ?? EXIT.ok.number
}
