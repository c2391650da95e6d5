"""The path of zero-shot detection: it only translates between HTTP and the detector."""

from fastapi import Request, Response

from service.hangup import until_hangup
from service.openapi import picture_body
from service.routes import trace_of
from service.sending import AnswerResponse
from service.upload import read_upload
from service.work import work_router
from service.zero_shot.detector import ZeroShotDetector
from service.zero_shot.schemas import ZeroShotAnswer, ZeroShotParameters

work = work_router("moeclip")


@work.post("/zero-shot", response_model=ZeroShotAnswer, openapi_extra=picture_body(ZeroShotParameters))
async def zero_shot(request: Request) -> Response:
    """Judge one picture of something the model was not trained on, by its class name or several."""
    detector = request.app.state.zero_shot
    assert isinstance(detector, ZeroShotDetector)
    upload = await read_upload(request, ZeroShotParameters)
    judging = detector.detect(upload.one(), upload.parameters, trace_of(request))
    answer = await until_hangup(request, judging)
    request.state.timings_ms.update(answer.timings_ms)
    return AnswerResponse(answer, request.state.permit.cover_answer)
