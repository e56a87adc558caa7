"""TLS 1.3 on a socket without blocking, by pyOpenSSL on the descriptor itself (twice as fast as over memory).

Lives here: contexts, the handshake, reading into and writing from buffers, the shutdown. Must not live here: frames, the reactor.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque

from OpenSSL import SSL, crypto

RECORD = 16 * 1024
READ_SIZE = 8 * RECORD
"""What one `fill` takes at the most, and a record more."""
BULK = 4096
"""From so many bytes on it is worth looking for more at once."""
CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266
EXPORTER_SIZE = 32
PARTIAL_WRITE = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE of <openssl/ssl.h>, which pyOpenSSL sets but does not name


class Broken(Exception):
    """The connection is gone; the text says how, in one line."""


def tls_context() -> SSL.Context:
    """TLS 1.3 only, no resumption (a resumed session would skip what the client verifies). Made before the fork; it has no key yet."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(PARTIAL_WRITE)  # one call for a whole frame instead of one for each 16 KiB
    return context


def use_leaf(context: SSL.Context, chain: list[str], key: str) -> None:
    """The certificate and the only key that a net ever sees."""
    certificates = [crypto.load_certificate(crypto.FILETYPE_PEM, pem.encode()) for pem in chain]
    context.use_certificate(certificates[0])
    for extra in certificates[1:]:
        context.add_extra_chain_cert(extra)
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key.encode()))


class TlsSocket:
    """The node's end. Every method may raise `Broken`."""

    def __init__(self, sock: socket.socket, context: SSL.Context) -> None:
        self.sock = sock
        self.buffer = memoryview(bytearray(READ_SIZE + RECORD))
        self._tls = SSL.Connection(context, sock)
        self._tls.set_accept_state()
        self._queue: deque[memoryview | bytes] = deque()

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done, False when the client's next word is awaited."""
        try:
            self._tls.do_handshake()
        except (SSL.WantReadError, SSL.WantWriteError):  # a server's few handshake bytes always fit into an empty socket
            return False
        except (SSL.Error, OSError) as error:
            raise Broken(f"no TLS 1.3 handshake: {describe(error)}") from None
        return True

    def exporter(self) -> bytes:
        """The RFC 9266 tls-exporter value, once the handshake is done."""
        return self._tls.export_keying_material(EXPORTER_LABEL, EXPORTER_SIZE, b"")

    def fill(self) -> int:
        """Read records into `buffer` until there are no more, or no room for another: how many bytes."""
        size = 0
        try:
            while size < READ_SIZE:
                got = self._tls.recv_into(self.buffer[size:], RECORD)
                size += got
                if size < BULK and not self._tls.pending():
                    break  # a person types: most likely all there is, and asking in vain costs more than the reactor's next call
        except SSL.WantReadError:
            pass
        except (SSL.Error, OSError) as error:
            if not size:
                raise Broken(describe(error)) from None
        return size

    def queue(self, *parts: memoryview | bytes) -> None:
        """To be sent. A memoryview must stay as it is until then."""
        self._queue.extend(parts)

    def flush(self) -> bool:
        """Give TLS what is queued; False when it takes no more now."""
        try:
            while self._queue:
                part = self._queue[0]
                taken = self._tls.send(part)
                if taken == len(part):
                    self._queue.popleft()
                else:
                    self._queue[0] = memoryview(part)[taken:]
        except SSL.WantWriteError:
            return False
        except (SSL.Error, OSError) as error:
            raise Broken(describe(error)) from None
        return True

    def finish(self) -> None:
        """Nothing more will be sent."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def drain(self) -> bool:
        """After `finish`: read and drop, so that no reset overtakes what the client has not read yet. True when it has closed too."""
        try:
            while self.sock.recv_into(self.buffer):
                pass
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def describe(error: Exception) -> str:
    """One line about a TLS or system error."""
    if isinstance(error, SSL.ZeroReturnError):
        return "closed by the client"
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1])
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "; ".join(str(part[-1]) for part in reasons) or type(error).__name__
    return str(error)
