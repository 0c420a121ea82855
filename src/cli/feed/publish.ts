/** `manyhost feed publish`: publishes a message, or each line of standard input as a message. */
import { createInterface } from 'node:readline'
import { EXIT } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { connectFeedClient, type FeedPeerFlags, sendAndClose, toFeedCliError } from './connect.ts'

export async function run([given]: readonly unknown[], options: FeedPeerFlags): Promise<number> {
  const words = (given ?? []) as readonly string[]
  const text = words.join(' ')
  const { client, channels } = await connectFeedClient(options)
  let code: number = EXIT.ok.number
  try {
    if (words.length > 0) for (const channel of channels) client.publish(channel, text)
    else {
      const interruption = abortOnInterrupt()
      const lines = createInterface({ input: process.stdin, signal: interruption.signal })
      for await (const line of lines) {
        for (const channel of channels) {
          if (!client.publish(channel, line)) await client.drained()
        }
      }
      code = interruption.code()
    }
  } catch (error) {
    await client.close().catch(() => undefined)
    throw toFeedCliError(error)
  }
  await sendAndClose(client)
  return code
}
