"""The inspector as it is sent: one document that may run nothing but itself, and its pictures."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.bundle import Bundle
from service.api.page import FOLDER, PICTURES
from service.api_keys import add_key, make_key
from tests.service.conftest import ServiceFactory
from training.demo.factory.render import render
from training.demo.things.scene import Thing, draw

MOST_BYTES = 120_000


def policy_of(service: TestClient, path: str = "/") -> dict[str, str]:
    directives = service.get(path).headers["content-security-policy"].split("; ")
    return {name: value for name, _, value in (one.partition(" ") for one in directives)}


def inside(html: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", html, re.DOTALL)


def test_script_and_style_are_allowed_by_their_hashes_alone(service: TestClient) -> None:
    html, policy = service.get("/").text, policy_of(service)
    for tag in ("script", "style"):
        (text,) = inside(html, tag)
        assert text.strip()
        assert policy[f"{tag}-src"] == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(r"<[^>]+\s(on\w+|style)=", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))


def test_the_page_is_small_and_names_no_other_host(service: TestClient) -> None:
    response = service.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert len(response.content) < MOST_BYTES
    hosts = set(re.findall(r"https?://[^/'\"\s]+", response.text))
    assert hosts == {"http://www.w3.org"}  # the name of SVG, which nobody fetches
    assert "<!-- " not in response.text  # every part was put in its place


def test_pictures_are_sent_and_nothing_else(service: TestClient) -> None:
    for name in PICTURES:
        response = service.get(f"/gallery/{name}")
        assert response.headers["content-type"] == "image/jpeg"
        assert response.content == (FOLDER / "gallery" / name).read_bytes()
    for other in ("none.jpg", "..%2Fmain.js", "%2e%2e/main.js"):
        assert service.get(f"/gallery/{other}").status_code == 404


def test_the_script_knows_every_picture() -> None:
    names = re.findall(r'\["([\w-]+\.jpg)"', (FOLDER / "main.js").read_text(encoding="utf-8"))
    assert tuple(sorted(names)) == PICTURES


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_one_that_its_name_says(name: str) -> None:
    product, kind, seed = Path(name).stem.split("-")
    if product == "gear":
        drawn = Image.fromarray(draw(Thing("gear", "metal"), int(seed), kind, 256).picture)
    else:
        drawn = render(product, int(seed), None if kind == "good" else kind)[0]
    stored = Image.open(str(FOLDER / "gallery" / name))
    assert stored.size == drawn.size
    assert np.abs(np.asarray(stored, np.int16) - np.asarray(drawn, np.int16)).mean() < 4


def test_behind_a_prefix_addresses_begin_with_it(start_service: ServiceFactory) -> None:
    service = start_service(root_path="/factory")
    for path in ("/factory", "/factory/", "/"):  # a proxy takes the prefix off or leaves it there
        assert '<base href="/factory/">' in service.get(path).text
    assert service.get(f"/factory/gallery/{PICTURES[0]}").status_code == 200
    assert policy_of(service)["base-uri"] == "'self'"


def test_the_page_is_open_and_what_it_asks_needs_a_key(start_service: ServiceFactory, tmp_path: Path) -> None:
    key, entry = make_key("inspector", "infer")
    add_key(tmp_path / "keys", entry)
    service = start_service(api_keys_file=tmp_path / "keys")
    assert service.get("/").status_code == service.get(f"/gallery/{PICTURES[0]}").status_code == 200
    assert service.get("/categories/brick/calibration").status_code == 401
    assert service.get("/categories/brick/calibration", headers={"X-API-Key": key}).status_code == 200


def test_calibration_scores_are_those_of_the_bundle(service: TestClient, bundle_folder: Path) -> None:
    bundle = Bundle.read(bundle_folder)
    told = service.get("/categories/brick/calibration").json()
    assert told["scores"] == bundle.categories["brick"].scores.tolist()
    assert told["scores"] == sorted(told["scores"])
    assert told["model"]["digest"] == bundle.digest
    assert (told["name"], told["alpha"]) == ("brick", bundle.manifest.calibration.alpha)


def test_a_class_name_has_its_calibration_in_any_spelling(zero_shot_service: TestClient) -> None:
    told = zero_shot_service.get("/categories/Slate/calibration").json()
    assert told["name"] == "slate"
    assert told["scores"]


def test_a_name_that_is_not_calibrated_is_told_with_those_that_are(service: TestClient) -> None:
    response = service.get("/categories/glass/calibration")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:anomoe:unknown-category"
    assert response.json()["detail"] == "name: 'glass' is none of brick, slate"
