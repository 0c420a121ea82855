/**
 * What the parts of a link see of each other. These types let the parts be written, and tested, without the class that
 * joins them: link.ts imports the parts, and no part imports link.ts.
 */
import type { ManyhostError } from '../core/errors.ts'
import type { Packet } from './frames.ts'
import type { WireSettings } from './options.ts'
import type { SendLock } from './send-lock.ts'
import type { PacketSender } from './sender.ts'

/** What is known of the peer. */
export interface WirePeer {
  /** Whether the peer is manyhost too: errors, beats, cancelling and framed blobs are agreed on. */
  isExtended: boolean
  /** Whether the peer has proved that it has the key. */
  isAuthenticated: boolean
  /** The name that the peer gives itself. */
  ident: string | undefined
  /** Milliseconds between the peer's beats; 0 if it sends none. */
  beat: number
}

/** Counts of a link since it began. */
export interface LinkCounts {
  posted: number
  hosted: number
  failed: number
  unobserved: number
  /** Bytes. */
  received: number
}

/** Answers the code of the greeting, while the greeting is not done. */
export interface GreetingHandler {
  /** Whether conversations other than the greeting are refused for now. */
  readonly isStrict: boolean
  /** Resolves when our own conversations may begin. */
  readonly mayPost: Promise<void>
  onGreeting(text: string): unknown
  /** The answer to the hello has been written. */
  onHelloAnswered(): void
}

/** A call of `recvObj`, `recvData` or `finishRecv` that waits for an object, for bytes, or for the end of the sending. */
export interface PendingReceive {
  readonly kind: 'obj' | 'data' | 'end'
  /** Bytes that are still missing. */
  missingBytes: number
  readonly totalBytes: number
  /** Whether the first bytes that come are enough. */
  readonly isPartial: boolean
  /** Whether the end of the response is an answer too. */
  readonly isOptional: boolean
  onBytes(bytes: Buffer): void
  resolve(value: unknown): void
  reject(error: Error): void
}

/** A call of `getObj`, which waits for an object that comes outside of a response. */
export interface AwaitedObject {
  /** The conversation that asked: it is only compared. */
  readonly co: object
  resolve(value: unknown): void
  reject(error: Error): void
}

/** A conversation that takes packets off the wire. */
export interface ReceivingConversation {
  readonly coSeq: string
  /** The receive that is served next. */
  readonly pendingReceive: PendingReceive | undefined
  /** Raw bytes that it waits for: only then may they be taken off the wire. */
  readonly wantsBytes: number
  /** Whether the next packet may be taken off the wire for it. */
  readonly wantsPacket: boolean
  pushPacket(packet: Packet): void
}

/** A conversation that this side posted. */
export interface PostedConversation extends ReceivingConversation {
  readonly job: unknown
  onResponseBegin(): void
  onLinkEnd(error: Error): void
  waitSettled(): Promise<void>
}

/** A conversation that the peer posted. */
export interface HostedConversation extends ReceivingConversation {
  /** The peer cancelled it. */
  cancel(): void
  onLinkEnd(error: Error): void
}

/** The demultiplexer, as conversations see it. */
export interface PacketSource {
  /** Bytes in the inboxes of all conversations. */
  heldBytes: number
  /** Takes packets off the wire as far as a conversation wants them. */
  pump(): void
  releaseReceiver(conversation: ReceivingConversation): void
  awaitObject(awaited: AwaitedObject): void
  rejectAwaitedObjects(co: object, error?: Error): void
}

/** The link, as conversations see it. */
export interface ConversationLink {
  readonly settings: WireSettings
  readonly isUp: boolean
  readonly isExtended: boolean
  readonly maxPacketBytes: number
  readonly parser: { readonly isFramed: boolean }
  readonly demultiplexer: PacketSource
  readonly sender: PacketSender
  readonly sendLock: SendLock
  readonly greeter: GreetingHandler | undefined
  readonly pending: Map<string, PostedConversation>
  readonly hosted: Map<string, HostedConversation>
  assertUp(): void
  sendPacket(direction: string, text: string): void
  landText(text: string, conversation: ReceivingConversation): unknown
  isGreeting(coSeq: string): boolean
  isReportable(error: Error): boolean
  reportUnobserved(error: Error): void
  onPostedEnded(conversation: PostedConversation): void
  onHostedEnded(conversation: HostedConversation, error?: Error): void
  disconnectForViolation(message: string): void
  disconnect(reason?: string, tellPeer?: boolean, error?: ManyhostError): Promise<void>
}
