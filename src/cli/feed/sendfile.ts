/** `manyhost feed sendfile`: publishes a file as one message. */
import { describeError } from '../../core/errors.ts'
import { CliError, EXIT } from '../exit.ts'
import { readOptionFile } from '../secrets.ts'
import { connectFeedClient, type FeedPeerFlags, sendAndClose } from './connect.ts'

export async function run(
  [file = '']: readonly (string | undefined)[],
  options: FeedPeerFlags,
): Promise<number> {
  const payload = readOptionFile('the file', file)
  const { client, channels } = await connectFeedClient(options)
  try {
    for (const channel of channels) client.publish(channel, payload)
  } catch (error) {
    await client.close().catch(() => undefined)
    throw new CliError('failure', `${file}: ${describeError(error)}`, { cause: error })
  }
  await sendAndClose(client)
  return EXIT.ok.number
}
