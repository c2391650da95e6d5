"""The socket that connections come to."""

import socket

RECEIVED_BYTES = 2**19  # that the system keeps for a connection; it would begin with much less


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send what they have at once. Raises OSError for a port that is taken.

    asyncio asks for that only on sockets made with TCP's number, which this one is not; without it the body
    of an answer waits up to 40 ms for its headers to be acknowledged. A picture that fits into their buffer
    comes in one piece, so that the event loop is woken once for it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit both
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
    return listener
