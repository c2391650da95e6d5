"""A request to pictures and parameters: raw body, multipart form or JSON; the query works with each."""

import asyncio
import codecs
import sys
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from service.errors import Kind, Problem, shown, wrong_parameters

MOST_PARAMETERS = 100  # each unknown one costs an error
BLANKS = b" \t\r\n"  # in base64, whose lines many tools break
URL_SAFE = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5
MOST_VALUES = 100_000  # of a JSON body; while they are read no other thread goes on

CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1"})  # of a form; others decode slowly, or raise anything

Parameters = TypeVar("Parameters", bound=BaseModel)

_JSON_OBJECT: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


@dataclass(frozen=True)
class Upload(Generic[Parameters]):
    """The pictures of a request, still encoded, and what is asked about them."""

    pictures: list[bytes]
    parameters: Parameters

    def one(self) -> bytes:
        """The only picture.

        Raises: Problem (422) when there is not exactly one.
        """
        if len(self.pictures) != 1:
            raise Problem(Kind.INVALID_PARAMETER, f"file: one picture is expected, got {len(self.pictures)}")
        return self.pictures[0]


def keep_forms_in_memory() -> None:
    """Let large parts of a form have no file: a body is in memory as a whole, and bounded."""
    MultiPartParser.spool_max_size = sys.maxsize


async def read_upload(request: Request, wanted: type[Parameters]) -> Upload[Parameters]:
    """Read the body, whichever form it has; `wanted` says which parameters there are.

    Raises: Problem (400 malformed, 413 too large, 415 wrong content type, 422 wrong parameter).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        return await read_form(request, wanted)
    _check_encoding(request)
    query = gathered(request.query_params.multi_items())
    if content_type == "application/json":
        return await asyncio.to_thread(_from_json, await request.body(), query, wanted)
    if content_type.startswith("image/") or content_type in ("application/octet-stream", ""):
        return Upload([await request.body()], parse_parameters(query, wanted))
    detail = f"content-type: {shown(content_type)} is none of image/*, multipart/form-data, application/json"
    raise Problem(Kind.NOT_A_PICTURE, detail)


async def read_form(request: Request, wanted: type[Parameters]) -> Upload[Parameters]:
    """Read a multipart body: parts named `file` with a file name are pictures, the others parameters.

    Raises: Problem (400 malformed, 413 too large, 415 wrong content type, 422 wrong parameter).
    """
    _check_encoding(request)
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise Problem(Kind.NOT_A_PICTURE, f"content-type: {shown(content_type)} is not multipart/form-data")
    _check_charset(content_type)
    async with request.form() as form:
        parts = form.multi_items()
        for name, part in parts:
            if isinstance(part, str) == (name == "file"):
                detail = f"{shown(name)}: a picture is a part called file with a file name, others have none"
                raise Problem(Kind.INVALID_PARAMETER, detail)
        query = gathered(request.query_params.multi_items())
        fields = gathered((name, part) for name, part in parts if isinstance(part, str))
        parameters = _merged(query, fields, wanted)
        return Upload([await part.read() for _, part in parts if isinstance(part, UploadFile)], parameters)


def _check_encoding(request: Request) -> None:
    coding = request.headers.get("content-encoding", "")
    if coding.strip().lower() not in ("", "identity"):
        detail = f"content-encoding: {shown(coding)} is not read, the body has to come as it is"
        raise Problem(Kind.NOT_A_PICTURE, detail, {"Accept-Encoding": "identity"})


def _check_charset(content_type: str) -> None:
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        is_known = codecs.lookup(charset).name in CHARSETS
    except (LookupError, ValueError):
        is_known = False
    if not is_known:
        raise Problem(Kind.MALFORMED, f"content-type: charset={shown(charset)} is not utf-8")


def gathered(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Query or form fields by name; one that is repeated becomes the list of its values."""
    values: dict[str, list[object]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: several if len(several) > 1 else several[0] for name, several in values.items()}


def parse_parameters(fields: Mapping[str, object], wanted: type[Parameters]) -> Parameters:
    """Check parameters, whose values may still be text.

    Raises: Problem (422) naming the first wrong fields and their values.
    """
    if len(fields) > MOST_PARAMETERS:
        raise Problem(Kind.INVALID_PARAMETER, f"{len(fields)} parameters, at most {MOST_PARAMETERS} are read")
    try:
        return wanted.model_validate(dict(fields))
    except ValidationError as error:
        raise wrong_parameters(error.errors()) from error


def _merged(
    query: Mapping[str, object], fields: Mapping[str, object], wanted: type[Parameters]
) -> Parameters:
    """Parameters of query and body: the body's win, but those of the query must be right too."""
    if query.keys() & fields.keys():
        parse_parameters({**fields, **query}, wanted)
    return parse_parameters({**query, **fields}, wanted)


def _from_json(body: bytes, query: Mapping[str, object], wanted: type[Parameters]) -> Upload[Parameters]:
    if body.count(b",") > MOST_VALUES:
        detail = f"the body has more than {MOST_VALUES} values; an image and a few parameters are expected"
        raise Problem(Kind.INVALID_PARAMETER, detail)
    try:
        fields = _JSON_OBJECT.validate_json(body.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        detail = f"the body is not a JSON object: {error.errors()[0]['msg']}"
        raise Problem(Kind.MALFORMED, detail) from error
    image = fields.pop("image", None)
    parameters = _merged(query, fields, wanted)
    if not isinstance(image, str):
        detail = f"image: base64 text is expected, got {type(image).__name__}"
        raise Problem(Kind.INVALID_PARAMETER, detail)
    return Upload([_from_base64(image)], parameters)


def _from_base64(text: str) -> bytes:
    """In the common or in the URL-safe alphabet, with or without padding, by itself or as a data URI.

    Raises: Problem (422).
    """
    head, _, data = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    if head and not head.lower().endswith(";base64"):
        raise Problem(Kind.INVALID_PARAMETER, f"image: not base64: a data URI that begins {shown(head)}")
    if " " in data and any(" " in line.strip() for line in data.splitlines()):
        detail = "image: not base64: a blank within a line; was a + decoded as in a form?"
        raise Problem(Kind.INVALID_PARAMETER, detail)
    try:
        encoded = data.encode().translate(URL_SAFE, BLANKS).rstrip(b"=")
        return b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except ValueError as error:
        raise Problem(Kind.INVALID_PARAMETER, f"image: not base64: {error}") from error
