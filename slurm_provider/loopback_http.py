"""HTTP requests that carry the token: none leaves before the listener is known to be ours."""

from __future__ import annotations

import http.client
import urllib.request
from ipaddress import ip_address

from slurm_provider.listener import check_owner


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        """Raises StrangerListens, an OSError."""
        super().connect()
        if ip_address(self.sock.getpeername()[0]).is_loopback:
            try:
                check_owner(self.sock)
            except OSError:
                self.close()
                raise


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


def opener() -> urllib.request.OpenerDirector:
    """Opens ``http`` addresses of this host only where this user or root answers; other hosts' as
    always. A proxy of the environment is not for addresses that lead through our own tunnel."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _Handler())
