"""The path of zero-shot detection: it only translates between HTTP and the detector."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.hangup import until_hangup
from service.openapi import PROBLEMS, picture_body
from service.routes import trace_of
from service.upload import read_upload
from service.zero_shot.detector import ZeroShotDetector
from service.zero_shot.schemas import ZeroShotAnswer, ZeroShotParameters

router = APIRouter(responses=PROBLEMS)


async def detector_of(request: Request) -> ZeroShotDetector:
    """The zero-shot detector of the application."""
    detector = request.app.state.zero_shot
    assert isinstance(detector, ZeroShotDetector)
    return detector


Detecting = Annotated[ZeroShotDetector, Depends(detector_of)]


@router.post("/zero-shot", openapi_extra=picture_body(ZeroShotParameters))
async def zero_shot(request: Request, detector: Detecting) -> ZeroShotAnswer:
    """Judge one picture of something the model was not trained on, by its class name or several."""
    upload = await read_upload(request, ZeroShotParameters)
    answer = await until_hangup(request, detector.detect(upload.one(), upload.parameters, trace_of(request)))
    request.state.timings_ms.update(answer.timings_ms)
    return answer
