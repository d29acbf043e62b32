"""The way out for containers: a program that carries their traffic as an ordinary user's, where there is one.

Both know how to be a router of a container's own network: pasta_ and slirp4netns_. Neither lets it reach what listens
on this machine's loopback addresses. They need the device ``/dev/net/tun``.

.. _pasta: https://passt.top
.. _slirp4netns: https://github.com/rootless-containers/slirp4netns
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from oubliette_embedded._options import Options

__all__ = ["ADDRESS", "NAMESERVER", "Way", "find_way"]

ADDRESS = "10.0.2.100"
"""What every container is called in its own network."""
NAMESERVER = "10.0.2.3"
_ROUTER = "10.0.2.2"
_DEVICE = "/dev/net/tun"
_INSTALL = "For a network, install pasta (package passt) or slirp4netns."
_PASTA = (
    *("--config-net", "--ipv4-only", "--quiet", "--no-map-gw", "--foreground"),
    *("--address", ADDRESS, "--netmask", "24", "--gateway", _ROUTER, "--dns-forward", NAMESERVER),
    *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
    *("--userns", "{user}", "--netns", "{net}"),
)
_SLIRP = (
    *("--configure", "--mtu=65520", "--disable-host-loopback"),
    *("--netns-type=path", "--userns-path={user}", "{net}", "tap0"),
)


@attrs.frozen(kw_only=True)
class Way:
    """How containers reach the network.

    :param command: argv of the program, with words to be filled in by the supervisor; empty where there is no way.
    :param reason: why there is none. :param hint: how to get one.
    """

    command: tuple[str, ...] = ()
    name: str = ""
    reason: str = ""
    hint: str = ""


def find_way(options: Options) -> Way:
    """Find the way out, as configured or whatever there is."""
    if options.network == "none":
        return Way(reason="containers have no network: runtimes.embedded.network is none")
    names = ("pasta", "slirp4netns") if options.network == "auto" else (options.network,)
    found = {name: path for name in names if (path := shutil.which(name))}
    if not found:
        missing = f"{' or '.join(names)} is not installed"
        return Way(reason=f"containers have no network: {missing}", hint=_INSTALL)
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Way(
            reason=f"containers have no network: this user may not use {_DEVICE}",
            hint=f"As the superuser: chmod 0666 {_DEVICE}",
        )
    name, path = next(iter(found.items()))
    if name == "slirp4netns":
        return Way(command=(path, *_SLIRP), name=name)
    # Started by the superuser it would become nobody, who cannot enter.
    return Way(command=(path, *(("--runas", "0") if os.geteuid() == 0 else ()), *_PASTA), name=name)
