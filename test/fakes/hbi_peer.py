"""A peer of HBI's final wire, in plain Python, as the original is one: it evaluates whatever comes.

Usage: hbi_peer.py serve        listens, writes its port, and serves one peer after the other
       hbi_peer.py dial PORT    posts to a peer, and writes what it was answered as one line of Python
"""
import binascii
import socket
import sys


class Peer:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b''
        self.heard = []
        self.answer = b''
        self.late = []
        self.is_late = False
        self.number = 100
        self.env = {
            'echo': lambda *args, **named: self.respond(args[0] if len(args) == 1 else [args, named]),
            'put': lambda size: self.respond(binascii.crc32(self.take(size))),
            'get': self.get,
            'slow': self.slow,
            'note': self.heard.append,
            'notes': lambda: self.respond(len(self.heard)),
            'later': lambda text: self.post('job_done(%r)' % (text,)),
            'nil': None, 'null': None, 'true': True, 'false': False,
        }

    # What the wire is made of.

    def more(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise EOFError
        self.buffer += chunk

    def take(self, size):
        while len(self.buffer) < size:
            self.more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def packet(self):
        while b']' not in self.buffer[:60]:
            assert len(self.buffer) < 60, self.buffer
            self.more()
        head = self.take(self.buffer.index(b']') + 1)
        assert head[:1] == b'[', head
        size, direction = head[1:-1].decode().split('#', 1)
        return direction, self.take(int(size)).decode()

    @staticmethod
    def written(direction, text):
        payload = text.encode()
        return b'[%d#%s]%s' % (len(payload), direction.encode(), payload)

    def send(self, direction, text):
        self.sock.sendall(self.written(direction, text))

    # What the peer may call.

    def respond(self, value):
        self.answer += self.written('co_recv', repr(value))

    def get(self, size):
        self.answer += b'z' * size

    def slow(self, value):
        """Answered when a later one was."""
        self.is_late = True
        self.respond(value)

    # Hosting.

    def host(self, number):
        self.answer, self.is_late = b'', False
        while True:
            direction, text = self.packet()
            if direction == 'co_end':
                assert text == number, (text, number)
                break
            if direction == 'co_send':
                self.send('co_recv', repr(eval(text, self.env)))
            elif direction == '':
                exec(text, self.env)
            else:
                raise AssertionError('HO unexpected packet: [#%s]%s' % (direction, text))
        answer = self.written('co_ack_begin', number) + self.answer + self.written('co_ack_end', number)
        if self.is_late:
            self.late.append(answer)
            return
        self.sock.sendall(answer + b''.join(self.late))
        self.late.clear()

    def serve(self):
        while True:
            direction, text = self.packet()
            if direction == 'co_begin':
                self.host(text)
            elif direction == 'co_ack_begin':
                assert self.packet() == ('co_ack_end', text)
            elif direction == 'err':
                return
            else:
                self.send('err', 'COKEEPER unexpected packet: [#%s]%s' % (direction, text))
                return

    # Posting.

    def post(self, code, blob=b''):
        self.number += 1
        self.send('co_begin', str(self.number))
        self.send('', code)
        self.sock.sendall(blob)
        self.send('co_end', str(self.number))
        return str(self.number)

    def answered(self, size=None):
        """The next answer, whosever it is: its number, and its object, or so many bytes."""
        while True:
            direction, number = self.packet()
            if direction == 'co_ack_begin':
                break
            assert direction == 'co_begin', (direction, number)
            self.host(number)
        value = None
        if size is not None:
            value = self.take(size)
        direction, text = self.packet()
        if direction == 'co_recv':
            value = eval(text, self.env)
            direction, text = self.packet()
        assert (direction, text) == ('co_ack_end', number), (direction, text)
        return number, value

    def call(self, code, blob=b'', size=None):
        number = self.post(code, blob)
        answered, value = self.answered(size)
        assert answered == number, (answered, number)
        return value


def serve():
    server = socket.create_server(('127.0.0.1', 0))
    print(server.getsockname()[1], flush=True)
    while True:
        sock, _ = server.accept()
        try:
            Peer(sock).serve()
        except Exception:
            pass  # As the original: what its code throws ends the connection, and nobody is told why.
        sock.close()


def dial(port):
    peer = Peer(socket.create_connection(('127.0.0.1', port)))
    got = {'echo': peer.call('echo(%r)' % ([1, -2.5, None, True, 'it\'s "\n\u00e9\U0001f600', b'\x00\xff', {'a': (1, 2)}],))}
    got['assigned'] = peer.call('my_name = "Nick"')
    got['keywords'] = peer.call("echo('a', size=5)")
    got['put'] = peer.call('put(5)', b'HELLO')
    blob = bytes(range(256)) * 4096
    got['big'] = peer.call('put(%d)' % len(blob), blob) == binascii.crc32(blob)
    got['get'] = peer.call('get(4)', size=4)
    peer.number += 1
    peer.send('co_begin', str(peer.number))
    peer.send('co_send', '1+1')
    got['co_send'] = peer.packet()
    peer.send('co_end', str(peer.number))
    peer.answered()
    slow, fast = peer.post("slow('A')"), peer.post("echo('B')")
    got['order'] = [('slow' if number == slow else 'fast', value) for number, value in (peer.answered(), peer.answered())]
    numbers = [peer.post('echo(%d)' % i) for i in range(500)]
    answers = dict(peer.answered() for _ in numbers)
    got['pipelined'] = [answers[number] for number in numbers] == list(range(500))
    # The server posts to us as well, in the middle of what we ask.
    peer.call("call_back('note', 7)")
    while not peer.heard:
        direction, number = peer.packet()
        assert direction == 'co_begin'
        peer.host(number)
    got['heard'] = peer.heard
    print(repr(got), flush=True)
    peer.sock.shutdown(socket.SHUT_WR)
    try:
        while True:
            peer.more()
    except EOFError:
        pass


if sys.argv[1] == 'serve':
    serve()
else:
    dial(int(sys.argv[2]))
