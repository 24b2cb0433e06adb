"""A remote command on this process's own standard streams, with or without a remote terminal."""

from __future__ import annotations

import contextlib
import os
import selectors
import termios
from collections.abc import Iterator
from tty import setraw

import paramiko

from slurm_provider.transport.ssh.process import ChannelWriter

_CHUNK_BYTES = 32 * 1024
_LOOK_AGAIN_S = (
    0.25  # how soon a new window size is passed on; works in any thread, unlike SIGWINCH
)
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def request_terminal(channel: paramiko.Channel) -> None:
    """Ask for a remote terminal like this one. Raises paramiko's errors when refused."""
    size = _terminal_size()
    channel.get_pty(os.environ.get("TERM", "dumb"), size.columns, size.lines)


def converse(channel: paramiko.Channel, *, tty: bool) -> None:
    """Pass bytes between the standard streams and a started command until its output ends."""
    with _raw_keyboard() if tty else contextlib.nullcontext():
        _pump(channel, tty=tty)


def _pump(channel: paramiko.Channel, *, tty: bool) -> None:
    size = _terminal_size() if tty else None
    with selectors.PollSelector() as selector:  # epoll refuses regular files as standard input
        selector.register(channel.fileno(), selectors.EVENT_READ)
        reads_keyboard = _register_stdin(selector)
        if not reads_keyboard:
            ChannelWriter(channel).close()
        while True:
            ready = {key.fd for key, _ in selector.select(_LOOK_AGAIN_S)}
            _show(channel)
            if _has_ended(channel):
                return
            if reads_keyboard and _STDIN in ready and not _pass_on_input(channel):
                selector.unregister(_STDIN)
                reads_keyboard = False
            if tty and (now := _terminal_size()) != size:
                size = now
                with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                    channel.resize_pty(now.columns, now.lines)


def _register_stdin(selector: selectors.PollSelector) -> bool:
    try:
        os.fstat(_STDIN)
    except OSError:
        return False  # started with standard input closed
    selector.register(_STDIN, selectors.EVENT_READ)
    return True


def _show(channel: paramiko.Channel) -> None:
    while channel.recv_ready():
        _write_all(_STDOUT, channel.recv(_CHUNK_BYTES))
    while channel.recv_stderr_ready():
        _write_all(_STDERR, channel.recv_stderr(_CHUNK_BYTES))


def _has_ended(channel: paramiko.Channel) -> bool:
    is_over = bool(channel.eof_received) or channel.closed
    return is_over and not channel.recv_ready() and not channel.recv_stderr_ready()


def _pass_on_input(channel: paramiko.Channel) -> bool:
    """Returns False at the end of the input."""
    data = os.read(_STDIN, _CHUNK_BYTES)
    stdin = ChannelWriter(channel)
    if not data:
        stdin.close()
        return False
    try:
        stdin.write(data)
    except OSError:
        return False  # the command has ended; its last words are still to come
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _terminal_size() -> os.terminal_size:
    for descriptor in (_STDOUT, _STDIN, _STDERR):
        with contextlib.suppress(OSError):
            return os.get_terminal_size(descriptor)
    return os.terminal_size((80, 24))


@contextlib.contextmanager
def _raw_keyboard() -> Iterator[None]:
    """Every key goes to the remote terminal, Ctrl-C too; the old mode comes back in any case."""
    if not os.isatty(_STDIN):
        yield
        return
    before = termios.tcgetattr(_STDIN)
    setraw(_STDIN, termios.TCSADRAIN)  # TCSAFLUSH would forget what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
