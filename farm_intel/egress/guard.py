"""May this URL be asked? URLs given by users lead to public addresses only, unless the operator names others.

What is checked is what is connected to: `check_url` resolves once and returns the addresses, and `egress.client`
connects to those and never asks the resolver again. A check of the name alone, or of one answer, lets through names
that answer differently the second time (DNS rebinding), and the many ways to write 127.0.0.1.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from farm_intel.domain.errors import NotConfiguredError, PermanentError, TransientError

type Address = IPv4Address | IPv6Address
type Resolver = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name, as text; raises OSError where there are none."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 2048
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII)
"""A last label like this makes resolvers read the whole host as an IPv4 address (WHATWG URL, "ends in a number")."""

_EMBEDDING_V4 = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
"""IPv6 networks whose addresses are IPv4 ones in disguise, and how far right the IPv4 address stands: compatible,
mapped, translated (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056)."""

_REFUSED_V4 = tuple(IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))
"""Python calls parts of them global: protocol assignments (one cloud has its metadata at 192.0.0.192), 6to4 relays."""
_REFUSED_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "64:ff9b:1::/48", "fec0::/10", "3fff::/20", "5f00::/16", "100::/64")
)
"""Teredo and other assignments, NAT64 of a local network, site-local, documentation, segment routing, discard."""


class UrlRefusedError(PermanentError):
    """A URL must not be asked."""


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that may be asked, at these addresses only."""

    url: str
    """Without fragment."""
    scheme: str
    host: str
    """Lower case, without a trailing dot or brackets."""
    port: int
    addresses: tuple[str, ...]
    """In the resolver's order; all of them were checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What may be asked besides public addresses over HTTPS."""

    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] = frozenset({443, 8443})
    hosts: frozenset[str] = frozenset()
    """Names the operator trusts, whatever their address, port and scheme."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks the operator trusts, any port, HTTP too."""

    @classmethod
    def of(cls, entries: Sequence[str]) -> Allowance:
        """Return the allowance for host names, addresses and networks in CIDR notation.

        Raises:
            NotConfiguredError: an entry is none of them.

        """
        hosts: set[str] = set()
        networks: list[IPv4Network | IPv6Network] = []
        for entry in (entry.strip().lower().rstrip(".") for entry in entries):
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if not _NAME.fullmatch(entry) or _ends_in_number(entry):
                    raise NotConfiguredError(
                        f"{entry!r} is neither a host name nor a network",
                        hint="Write e.g. receiver.farm.lan or 10.1.0.0/16.",
                    ) from None
                hosts.add(entry)
        return cls(hosts=frozenset(hosts), networks=tuple(networks))


PUBLIC_ONLY = Allowance()


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Return what the machine's resolver says, each address once."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def check_url(url: str, *, resolver: Resolver = system_resolver, allow: Allowance = PUBLIC_ONLY) -> CheckedUrl:
    """Return where a URL leads, if it may be asked; the message of a refusal never holds the URL.

    Args:
        url: given by a user.
        resolver: asked once.
        allow: what may be asked besides public addresses over HTTPS.

    Raises:
        UrlRefusedError: it must not be asked.
        TransientError: its host name cannot be resolved now.

    """
    scheme, host, port = _parts(url)
    addresses = _resolved(host, port, resolver)
    trusted = host in allow.hosts or all(_within(address, allow.networks) for address in addresses)
    if not trusted:
        if scheme not in allow.schemes:
            raise UrlRefusedError(f"the URL's scheme is {scheme}", hint="Use https.")
        if port not in allow.ports:
            raise UrlRefusedError(f"the URL's port is {port}", hint=f"Use one of {sorted(allow.ports)}.")
        for address in addresses:
            _check_address(address, allow)
    texts = tuple(str(address) for address in addresses)
    return CheckedUrl(url.split("#", 1)[0], scheme, host, port, texts)


def url_host(url: str) -> str:
    """Return `host:port` of a URL, without resolving it.

    Raises:
        UrlRefusedError: it is no URL that could ever be asked.

    """
    _, host, port = _parts(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet, seen through every disguise of IPv4 in IPv6."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if any(address in network for network in _REFUSED_V6):
            return False
    elif any(address in network for network in _REFUSED_V4):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _parts(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port; whatever two parsers might read differently is refused."""
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise UrlRefusedError(
            f"the URL has characters no URL has, or more than {_LONGEST_URL}",
            hint="Write host names of other scripts in their xn-- form.",
        )
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise UrlRefusedError("the URL cannot be read", hint="Write https://host/path.") from None
    if split.scheme not in _DEFAULT_PORTS:
        raise UrlRefusedError("the URL is not one of the web", hint="Use https://….")
    if "@" in split.netloc or "%" in split.netloc:
        raise UrlRefusedError("the URL has a user name, password or escape before its host", hint="Leave it out.")
    host = (split.hostname or "").removesuffix(".")
    _check_host(host, bracketed="[" in split.netloc)
    return split.scheme, host, port if port is not None else _DEFAULT_PORTS[split.scheme]


def _check_host(host: str, *, bracketed: bool) -> None:
    if bracketed:
        if _parsed(host) is None:
            raise UrlRefusedError("the URL's host is no IPv6 address")
    elif _parsed(host) is None and (not _NAME.fullmatch(host) or len(host) > 253 or _ends_in_number(host)):
        raise UrlRefusedError(
            "the URL's host is neither a name nor an address in its usual notation", hint="Write e.g. 203.0.113.7."
        )


def _resolved(host: str, port: int, resolver: Resolver) -> tuple[Address, ...]:
    literal = _parsed(host)
    if literal is not None:
        return (literal,)
    try:
        found = [_parsed(text) for text in resolver(host, port)]
    except (OSError, UnicodeError):
        found = []
    addresses = tuple(address for address in found if address is not None)
    if not addresses or len(addresses) < len(found):
        raise TransientError("the URL's host name cannot be resolved", hint="Check the name; it is tried again.")
    return addresses


def _check_address(address: Address, allow: Allowance) -> None:
    if not is_public(address) and not _within(address, allow.networks):
        raise UrlRefusedError(
            "the URL leads to an address that is not public",
            hint="If it is a receiver of your own network, have the operator allow its network or name.",
        )


def _within(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    for network, shift in _EMBEDDING_V4:
        if address in network:
            return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _ends_in_number(host: str) -> bool:
    return _NUMBER.fullmatch(host.rsplit(".", 1)[-1]) is not None
