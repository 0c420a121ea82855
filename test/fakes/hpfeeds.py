"""A peer of hpfeeds in another language, of the standard library alone, written after the description of the wire.

    hpfeeds.py client PORT IDENT SECRET [drip]     says what its standard input tells it to, prints what it hears
    hpfeeds.py broker IDENT SECRET [drip]          prints its port, then what clients say; all may do everything

Lines in: `sub CHANNEL`, `unsub CHANNEL`, `pub CHANNEL HEX`, `pub CHANNEL xCOUNT` (so many zeros), `error TEXT`, `cut`.
Lines out: `port N`, `info NAME`, `auth IDENT yes|no`, `sub IDENT CHANNEL`, `unsub IDENT CHANNEL`,
`pub IDENT CHANNEL HEX` (`xCOUNT` for more than 100 bytes), `error TEXT`, `closed`. With `drip` each byte goes out alone.
"""
import hashlib
import os
import socket
import struct
import sys
import threading

ERROR, INFO, AUTH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE = range(6)
MODE, *ARGS = sys.argv[1:]
DRIP = "drip" in ARGS
LOCK = threading.Lock()


def say(*words):
    with LOCK:
        print(*words, flush=True)


def packed(text):
    data = text.encode("utf-8")
    return struct.pack("!B", len(data)) + data


def unpacked(data):
    (size,) = struct.unpack("!B", data[:1])
    return data[1 : 1 + size].decode("utf-8"), data[1 + size :]


def send(peer, opcode, body):
    frame = struct.pack("!iB", 5 + len(body), opcode) + body
    if not DRIP:
        return peer.sendall(frame)
    for index in range(len(frame)):
        peer.sendall(frame[index : index + 1])


def exactly(peer, size):
    data = bytearray()
    while len(data) < size:
        chunk = peer.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def frames(peer):
    try:
        while True:
            size, opcode = struct.unpack("!iB", exactly(peer, 5))
            yield opcode, exactly(peer, size - 5)
    except (EOFError, OSError):
        return


def payload_of(word):
    return bytes(int(word[1:])) if word.startswith("x") else bytes.fromhex(word)


def shown(data):
    return f"x{len(data)}" if len(data) > 100 else data.hex()


def hear_publish(body):
    ident, rest = unpacked(body)
    channel, payload = unpacked(rest)
    say("pub", ident, channel, shown(payload))
    return channel


def client(port, ident, secret):
    peer = socket.create_connection(("127.0.0.1", int(port)))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def obey():
        for line in sys.stdin:
            what, channel, *rest = line.split()
            if what == "sub":
                send(peer, SUBSCRIBE, packed(ident) + channel.encode())
            elif what == "unsub":
                send(peer, UNSUBSCRIBE, packed(ident) + channel.encode())
            else:
                send(peer, PUBLISH, packed(ident) + packed(channel) + payload_of("".join(rest)))

    for opcode, body in frames(peer):
        if opcode == INFO:
            name, nonce = unpacked(body)
            proof = hashlib.sha1(nonce + secret.encode()).digest()
            send(peer, AUTH, packed(ident) + proof)
            say("info", name)
            threading.Thread(target=obey, daemon=True).start()
        elif opcode == PUBLISH:
            hear_publish(body)
        elif opcode == ERROR:
            say("error", body.decode())
    say("closed")


def broker(ident, secret):
    door = socket.create_server(("127.0.0.1", 0))
    say("port", door.getsockname()[1])
    hears = {}

    def serve(peer):
        nonce = os.urandom(4)
        send(peer, INFO, packed("snake") + nonce)
        for opcode, body in frames(peer):
            who, rest = unpacked(body)
            if opcode == AUTH:
                is_known = (who, rest) == (ident, hashlib.sha1(nonce + secret.encode()).digest())
                say("auth", who, "yes" if is_known else "no")
                if not is_known:
                    send(peer, ERROR, f"Authentication failed for {who}".encode())
                    break
                hears[peer] = set()
            elif opcode == PUBLISH:
                channel = hear_publish(body)
                for other, channels in list(hears.items()):
                    if channel in channels:
                        send(other, PUBLISH, body)
            else:
                channel = rest.decode()
                if opcode == SUBSCRIBE:
                    hears[peer].add(channel)
                else:
                    hears[peer].discard(channel)
                say("sub" if opcode == SUBSCRIBE else "unsub", who, channel)
        hears.pop(peer, None)
        peer.close()
        say("closed")

    def accept():
        while True:
            peer, _ = door.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    for line in sys.stdin:
        what, _, rest = line.rstrip("\n").partition(" ")
        for peer in list(hears):
            if what == "error":
                send(peer, ERROR, rest.encode())
            elif what == "cut":
                peer.shutdown(socket.SHUT_RDWR)
            else:
                channel, _, word = rest.partition(" ")
                send(peer, PUBLISH, packed("snake") + packed(channel) + payload_of(word))


if MODE == "client":
    client(*ARGS[:3])
else:
    broker(*ARGS[:2])
