/** `manyhost feed sendfile`: a file as one message. */
import { describe } from '../../core/errors.ts'
import { CliError, EXIT } from '../exit.ts'
import { connect, finish, type PeerOptions, read } from './connect.ts'

export async function run(
  [file = '']: readonly (string | undefined)[],
  options: PeerOptions,
): Promise<number> {
  const payload = read('the file', file)
  const { client, channels } = await connect(options)
  try {
    for (const channel of channels) client.publish(channel, payload)
  } catch (error) {
    await client.close().catch(() => undefined)
    throw new CliError('failure', `${file}: ${describe(error)}`, { cause: error })
  }
  await finish(client)
  return EXIT.ok.number
}
