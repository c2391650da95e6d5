"""The path of zero-shot detection: it only translates between HTTP and the service."""

from fastapi import Request, Response

from service.api.dependencies import trace_of
from service.api.openapi import picture_body
from service.api.upload import read_upload
from service.detection.moeclip import ZeroShotService
from service.middleware.admission import work_router
from service.middleware.disconnect import until_disconnect
from service.middleware.responses import AnswerResponse
from service.schemas.zero_shot import ZeroShotAnswer, ZeroShotParameters

work = work_router("moeclip")


@work.post("/zero-shot", response_model=ZeroShotAnswer, openapi_extra=picture_body(ZeroShotParameters))
async def zero_shot(request: Request) -> Response:
    """Judge one picture of something the model was not trained on, by its class name or several."""
    service = request.app.state.zero_shot
    assert isinstance(service, ZeroShotService)
    upload = await read_upload(request, ZeroShotParameters)
    judging = service.detect(upload.one(), upload.parameters, trace_of(request))
    answer = await until_disconnect(request, judging)
    request.state.timings_ms.update(answer.timings_ms)
    return AnswerResponse(answer, request.state.permit.cover_answer)
