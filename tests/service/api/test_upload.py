"""The forms in which a picture comes, and what is told of its samples beside it."""

import codecs
import json
from base64 import b64encode, urlsafe_b64encode

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.asking import NORMAL, PNG, check_problem
from tests.service.conftest import encoded
from tests.tiny_bundle import plain_picture

TEXT = b64encode(NORMAL).decode()
FORMS = {
    "base64": TEXT,
    "in lines": "\r\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    "in indented lines": "\n  ".join(TEXT[at : at + 64] for at in range(0, len(TEXT), 64)),
    "without padding": TEXT.rstrip("="),
    "URL-safe": urlsafe_b64encode(NORMAL).decode(),
    "data URI": f"data:image/png;base64,{TEXT}",
    "data URI, in capitals": f"DATA:image/png;charset=utf-8;BASE64,{TEXT}",
    "data URI, URL-safe": "data:;base64," + urlsafe_b64encode(NORMAL).decode().rstrip("="),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_picture_in_json_may_have_any_common_form(service: TestClient, form: str, mark: bytes) -> None:
    body = mark + json.dumps({"image": FORMS[form], "map": "none"}).encode()
    answer = service.post("/detect", content=body, headers={"Content-Type": "application/json"}).json()
    raw = service.post("/detect", content=NORMAL, headers=PNG).json()
    assert answer["raw_score"] == raw["raw_score"]


@pytest.mark.parametrize("image", ["data:image/png,abc", "a", "äöü", "YWJj=YWJj", "YWJj YWJj"])
def test_what_is_no_base64_is_named(service: TestClient, image: str) -> None:
    check_problem(
        service.post("/detect", json={"image": image}), 422, "invalid-parameter", "image: not base64"
    )


def test_bit_depth_is_a_parameter(service: TestClient) -> None:
    grey = np.asarray(plain_picture("brick").convert("L"))
    plain = service.post("/detect", content=encoded(Image.fromarray(grey)), headers=PNG).json()
    twelve_bits = encoded(Image.fromarray(np.rint(grey / 255 * 4095).astype(np.uint16)))
    dark = service.post("/detect", content=twelve_bits, headers=PNG).json()
    assert dark["levels"] != plain["levels"]
    body = {"image": b64encode(twelve_bits).decode(), "bit_depth": 12}
    for answer in (
        service.post("/detect?bit_depth=12", content=twelve_bits, headers=PNG),
        service.post("/detect", files={"file": ("a", twelve_bits)}, data={"bit_depth": "12"}),
        service.post("/detect", json=body),
    ):
        assert answer.json()["levels"] == plain["levels"]
    overlays = [
        service.post(f"/detect?map=overlay{depth}", content=data, headers=PNG).json()["anomaly_map"]["data"]
        for depth, data in (("", encoded(Image.fromarray(grey))), ("&bit_depth=12", twelve_bits))
    ]
    assert overlays[0] == overlays[1]


def test_a_wrong_bit_depth_is_named(service: TestClient) -> None:
    data = encoded(Image.fromarray(np.full((28, 28), 5000, np.uint16)))
    told = "a sample is 5000, with 12 bits they are 0 to 4095"
    response = service.post("/detect?bit_depth=12", content=data, headers=PNG)
    check_problem(response, 422, "undecodable-picture", told)
    for wrong in (7, 17):
        response = service.post(f"/detect?bit_depth={wrong}", content=data, headers=PNG)
        check_problem(response, 422, "invalid-parameter", "bit_depth", str(wrong))
