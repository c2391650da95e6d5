"""The path by which an inspector's judgement of a picture is kept."""

import asyncio

from fastapi import Request

from service.api.openapi import picture_body
from service.api.upload import read_upload
from service.detection.feedback import FeedbackStore
from service.errors import Kind, Problem
from service.middleware.admission import work_router
from service.schemas.feedback import FeedbackAnswer, FeedbackParameters

work = work_router("anomalymoe")  # with a permit: bodies are bounded as those of pictures to judge


@work.post("/feedback", status_code=201, openapi_extra=picture_body(FeedbackParameters))
async def feedback(request: Request) -> FeedbackAnswer:
    """Keep a picture, what was answered and whether it is good (needs `ANOMOE_FEEDBACK_DIR`)."""
    upload = await read_upload(request, FeedbackParameters)
    store: FeedbackStore | None = request.app.state.feedback
    if store is None:
        raise Problem(Kind.NOT_FOUND, "feedback: nothing is kept, ANOMOE_FEEDBACK_DIR is not set")
    told = upload.parameters
    path = await asyncio.to_thread(store.keep, upload.one(), told.category, told.judgement, told.answer)
    return FeedbackAnswer(path=path.as_posix())
