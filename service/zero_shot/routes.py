"""The path of zero-shot detection: it only translates between HTTP and the detector."""

from fastapi import APIRouter, Request

from service.hangup import until_hangup
from service.openapi import PROBLEMS, picture_body
from service.routes import trace_of
from service.upload import read_upload
from service.zero_shot.detector import ZeroShotDetector
from service.zero_shot.schemas import ZeroShotAnswer, ZeroShotParameters

work = APIRouter(responses=PROBLEMS)


@work.post("/zero-shot", openapi_extra=picture_body(ZeroShotParameters))
async def zero_shot(request: Request) -> ZeroShotAnswer:
    """Judge one picture of something the model was not trained on, by its class name or several."""
    detector = request.app.state.zero_shot
    assert isinstance(detector, ZeroShotDetector)
    upload = await read_upload(request, ZeroShotParameters)
    judging = detector.detect(upload.one(), upload.parameters, trace_of(request))
    answer = await until_hangup(request, judging)
    request.state.timings_ms.update(answer.timings_ms)
    return answer
