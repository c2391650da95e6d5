"""Requests that nobody's client sends by itself."""

import tempfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.contract.manifest import InputSpec
from service.api_keys import add_key, make_key
from service.images.decode import Opened, open_picture
from tests.service.asking import ANOMALOUS, NORMAL, PNG, check_problem
from tests.service.conftest import ServiceFactory, encoded


@pytest.mark.parametrize("path", ["/detect", "/detect/batch", "/zero-shot", "/models/reload"])
def test_a_path_with_a_line_end_is_none(
    start_service: ServiceFactory, tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    """A pattern that ends with $ matches it; permits, limits and roles go by what the path says."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    key, entry = make_key("cam", "infer")
    add_key(keys, entry)
    service = start_service(api_keys_file=keys)
    response = service.post(f"{path}%0A", content=NORMAL, headers={**PNG, "X-API-Key": key})
    check_problem(response, 404, "not-found", f"no such path: '{path}\\n'")


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-16", "none-such"])
def test_a_form_in_another_charset_is_refused_unread(service: TestClient, charset: str) -> None:
    """Some of Python's take the square of the length, others raise what no framework expects."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head + NORMAL + b"\r\n--x--\r\n"
    form = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    check_problem(service.post("/detect", content=body, headers=form), 400, "malformed", charset, "utf-8")
    form = {"Content-Type": "multipart/form-data; boundary=x; charset=UTF-8"}
    assert service.post("/detect", content=body, headers=form).status_code == 200


def test_a_large_part_of_a_form_needs_no_file(service: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(**_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_space)
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
    assert len(picture := encoded(Image.fromarray(noise))) > 2**20
    assert service.post("/detect", files={"file": ("a", picture)}).status_code == 200


def test_a_picture_of_a_batch_that_does_not_fit_into_memory_fails_alone(
    service: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(data: bytes, spec: InputSpec, max_pixels: int, expected: float) -> Opened:
        if data == ANOMALOUS:
            raise MemoryError
        return open_picture(data, spec, max_pixels, expected)

    monkeypatch.setattr("service.models.pipeline.open_picture", opened)
    files = [("file", (name, data)) for name, data in (("a", NORMAL), ("b", ANOMALOUS), ("c", NORMAL))]
    good, bad, other = service.post("/detect/batch", files=files).json()["results"]
    assert good["raw_score"] == other["raw_score"]
    assert (bad["status"], bad["detail"]) == (500, "unexpected MemoryError, see the log of the service")


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_a_picture_whose_exif_is_none_is_answered(service: TestClient, form: str) -> None:
    file = BytesIO()
    Image.new("RGB", (56, 42), (160, 60, 40)).save(file, form, exif=b"Exif\0\0garbage", dpi=(72, 72))
    assert service.post("/detect", content=file.getvalue(), headers=PNG).status_code == 200
