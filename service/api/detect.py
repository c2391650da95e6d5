"""The paths of the service: each only translates between HTTP and the service."""

from fastapi import Request, Response

from service.api.dependencies import detection_of, trace_of
from service.api.openapi import picture_body, pictures_body
from service.api.upload import read_form, read_upload
from service.errors import Kind, Problem
from service.middleware.admission import work_router
from service.middleware.disconnect import until_disconnect
from service.middleware.responses import AnswerResponse
from service.schemas.detect import BatchAnswer, DetectAnswer, DetectParameters

work = work_router("anomalymoe")


@work.post("/detect", response_model=DetectAnswer, openapi_extra=picture_body(DetectParameters))
async def detect(request: Request) -> Response:
    """Judge one picture."""
    upload = await read_upload(request, DetectParameters)
    judging = detection_of(request.app).detect(upload.one(), upload.parameters, trace_of(request))
    answer = await until_disconnect(request, judging)
    request.state.timings_ms.update(answer.timings_ms)
    return AnswerResponse(answer, request.state.permit.cover_answer)


@work.post("/detect/batch", response_model=BatchAnswer, openapi_extra=pictures_body(DetectParameters))
async def detect_batch(request: Request) -> Response:
    """Judge several pictures; each gets a result or an error of its own, in order."""
    upload = await read_form(request, DetectParameters)
    if not upload.pictures:
        raise Problem(Kind.INVALID_PARAMETER, "file: at least one picture is expected, got 0")
    trace = trace_of(request)
    judging = detection_of(request.app).detect_all(upload.pictures, upload.parameters, trace)
    answer = BatchAnswer(request_id=trace.request_id, results=await until_disconnect(request, judging))
    return AnswerResponse(answer, request.state.permit.cover_answer)
