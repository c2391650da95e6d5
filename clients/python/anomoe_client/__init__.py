"""Client of the anomoe service: pictures in, verdicts or one-line errors out."""

from anomoe_client.answers import (
    AnomalyMap,
    ClassVerdict,
    Detection,
    ExpertUse,
    LevelShare,
    ModelRef,
    Region,
    ZeroShotDetection,
)
from anomoe_client.async_client import AsyncClient
from anomoe_client.client import Client
from anomoe_client.errors import ClientError, PictureError, ProblemError, UnreachableError
from anomoe_client.parameters import DetectParameters, ZeroShotParameters
from anomoe_client.service import Picture

__all__ = [
    "AnomalyMap",
    "AsyncClient",
    "ClassVerdict",
    "Client",
    "ClientError",
    "DetectParameters",
    "Detection",
    "ExpertUse",
    "LevelShare",
    "ModelRef",
    "Picture",
    "PictureError",
    "ProblemError",
    "Region",
    "UnreachableError",
    "ZeroShotDetection",
    "ZeroShotParameters",
]
