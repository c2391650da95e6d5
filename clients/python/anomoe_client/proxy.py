"""Which proxy the environment names for an address, and which addresses go past it."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.request import getproxies

import httpx2

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: httpx2.URL) -> str | None:
    """The address of the proxy; none for this machine itself and for what NO_PROXY names."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    host, port = url.host.rstrip("."), url.port or _PORTS.get(url.scheme)
    if not proxy or _is_this_machine(host):
        return None
    if any(_names(entry.lower(), host, port) for entry in re.split(r"[\s,]+", proxies.get("no", ""))):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_this_machine(host: str) -> bool:
    network = _network(host)
    if network is None:
        return host == "localhost" or host.endswith(".localhost")
    return network.is_loopback or network.is_unspecified


def _names(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY names a host: `*`, a domain, an address a network, one with its port."""
    network = _network(entry)
    if network is not None:
        return _network(host) is not None and ip_address(host) in network
    name, _, wanted = entry.rpartition(":")
    if wanted == str(port):
        return _names(name, host, port)
    domain = entry.lstrip("*").lstrip(".")
    return entry == "*" or (domain != "" and f".{host}".endswith(f".{domain}"))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
