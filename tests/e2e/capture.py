"""What crosses the sandbox's network, as anybody on it could read: the bytes of its TCP flows."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict
from types import TracebackType

from sandbox.layout import BRIDGE

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 << 20
_LONGEST_FRAME = 1 << 17  # the virtual cables carry what no real card would
_IP, _TCP = 0x0800, 6

Flow = tuple[str, int, str, int]  # from address and port, to address and port


class Capture:
    """Listens while the ``with`` block lasts; needs root, and no package."""

    def __init__(self) -> None:
        self._parts: dict[Flow, list[bytes]] = defaultdict(list)
        self._ended = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Capture:
        self._socket.bind((BRIDGE, 0))
        # Promiscuous: a bridge keeps what one host says to another from its own machine.
        member = struct.pack("iHH8s", socket.if_nametoindex(BRIDGE), _PACKET_MR_PROMISC, 0, b"")
        self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.settimeout(0.2)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def flows_with(self, text: bytes) -> list[Flow]:
        """The flows in which ``text`` is readable; for after the block."""
        return [flow for flow, data in self.flows().items() if text in data]

    def flows(self) -> dict[Flow, bytes]:
        """Everything that each end said, in the order in which it came by."""
        return {flow: b"".join(parts) for flow, parts in self._parts.items()}

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                frame = self._socket.recv(_LONGEST_FRAME)
            except TimeoutError:
                continue
            flow, data = _tcp(frame)
            if data:
                self._parts[flow].append(data)


def _tcp(frame: bytes) -> tuple[Flow, bytes]:
    """Where a frame's TCP bytes come from and go to, and the bytes; none of another frame."""
    nothing = ("", 0, "", 0), b""
    if len(frame) < 54 or int.from_bytes(frame[12:14], "big") != _IP or frame[23] != _TCP:
        return nothing
    packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")] or frame[14:]
    segment = packet[(packet[0] & 15) * 4 :]
    source, target = struct.unpack("!HH", segment[:4])
    addresses = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return (addresses[0], source, addresses[1], target), segment[(segment[12] >> 4) * 4 :]
