/** `manyhost/wire`: conversations with a peer, over TCP, TLS or unix sockets. */
export { dial, takeSocket, type WireEnds } from './dial.ts'
export type { HostingEnd, LinkStats, NotifOptions, PostingEnd } from './ends.ts'
export type { HoCo } from './hoco.ts'
export type { WirePeer } from './link-types.ts'
export { type Names, reactor } from './names.ts'
export type { NamesFor } from './names-for.ts'
export type {
  DialOptions,
  WireAddress,
  WireKey,
  WireLinkOptions,
  WireServeOptions,
} from './options.ts'
export type { ConversationOptions, PoCo } from './poco.ts'
export { type ReconnectOptions, type RetryInfo, withReconnect } from './reconnect.ts'
export { code, repr } from './repr.ts'
export { serve, type WireServer } from './serve.ts'
export type { BlobSource, CodeSource } from './source.ts'
