# Targets: cpu (the default) and gpu serve bundles, train makes them.
#   docker build --target cpu --tag anomoe .
#   docker run --publish 8000:8000 --volume "$PWD/my-bundles:/bundles:ro" anomoe
#   docker run --gpus all ... for the image of the target gpu

FROM python:3.11-slim-bookworm AS train
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
COPY . /src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /src/constraints.txt "/src[cpu,train,pretrained,export]" && rm -r /src
RUN useradd --uid 10001 anomoe && install --directory --owner anomoe /state
WORKDIR /state
USER anomoe
CMD ["anomoe-train", "--help"]

# ONNX Runtime for GPUs from PyPI is built for CUDA 13 and cuDNN 9.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS gpu
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -r /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 ANOMOE_HOST=0.0.0.0 ANOMOE_PORT=8000 ANOMOE_STATE_DIR=/state
COPY . /src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /src/constraints.txt "/src[gpu]" \
    && mkdir /app && mv /src/bundles /src/docker/entrypoint.sh /src/docker/healthcheck.py /app && rm -r /src
RUN useradd --uid 10001 anomoe && install --directory --owner anomoe /bundles /state
WORKDIR /state
USER anomoe
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["serve"]

FROM python:3.11-slim-bookworm AS cpu
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 ANOMOE_HOST=0.0.0.0 ANOMOE_PORT=8000 ANOMOE_STATE_DIR=/state
COPY . /src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /src/constraints.txt "/src[cpu]" \
    && mkdir /app && mv /src/bundles /src/docker/entrypoint.sh /src/docker/healthcheck.py /app && rm -r /src
RUN useradd --uid 10001 anomoe && install --directory --owner anomoe /bundles /state
WORKDIR /state
USER anomoe
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["serve"]
