"""Which addresses go by which proxy of the environment."""

import httpx2
import pytest

from anomoe_client.proxy import proxy_for


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of a proxy is set, for a test to set its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://line.example:8000", "http://one:3128"),
        ("https://line.example", "socks5://two:1080"),
        ("http://128.0.0.1", "http://one:3128"),
        ("http://mylocalhost", "http://one:3128"),
    ],
)
def test_proxy_is_that_of_the_scheme(environment: pytest.MonkeyPatch, url: str, wanted: str) -> None:
    environment.setenv("HTTP_PROXY", "one:3128")
    environment.setenv("ALL_PROXY", "socks5://two:1080")
    assert proxy_for(httpx2.URL(url)) == wanted


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "0.0.0.0"]
)
def test_this_machine_goes_past_every_proxy(environment: pytest.MonkeyPatch, host: str) -> None:
    environment.setenv("ALL_PROXY", "http://one:3128")
    assert proxy_for(httpx2.URL(f"http://{host}:8000")) is None


def test_without_a_proxy_there_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "")
    assert proxy_for(httpx2.URL("http://line.example")) is None


@pytest.mark.parametrize(
    ("no_proxy", "goes_past"),
    [
        ("*", ["a.example", "10.1.2.3", "[fd00::1]"]),
        ("127.0.0.0/8,::1/128", []),
        ("10.0.0.0/8, fd00::/8", ["10.1.2.3", "[fd00::1]"]),
        ("10.1.2.9/8", ["10.1.2.3"]),
        ("10.1.2.3 [fd00::1]", ["10.1.2.3", "[fd00::1]"]),
        ("example", ["a.example"]),
        (".Example", ["a.example"]),
        ("*.example", ["a.example"]),
        ("A.EXAMPLE:8000", ["a.example"]),
        ("a.example:80,10.1.2.3:8000", ["10.1.2.3"]),
        ("[fd00::1]:8000", ["[fd00::1]"]),
        ("ample,.,:,:8000,10.1.2.3/99,http://a.example,[,]", []),
    ],
)
def test_no_proxy_names_domains_addresses_and_networks(
    environment: pytest.MonkeyPatch, no_proxy: str, goes_past: list[str]
) -> None:
    environment.setenv("ALL_PROXY", "http://one:3128")
    environment.setenv("NO_PROXY", no_proxy)
    hosts = ["a.example", "10.1.2.3", "[fd00::1]"]
    assert [host for host in hosts if proxy_for(httpx2.URL(f"http://{host}:8000")) is None] == goes_past
