# Targets: cpu (the default) and gpu serve bundles, train makes them.
#   docker build --target cpu --tag anomoe .
#   docker run --read-only --cap-drop ALL --publish 8000:8000 --volume "$PWD/my-bundles:/bundles:ro" --volume state:/state anomoe
#   docker run --gpus all ... for the image of the target gpu
# All of them run as any user id in group 0; only /state is written. A digest behind a tag is resolved by `make release`.

ARG PYTHON=docker.io/library/python:3.11.14-slim-bookworm

# Wheels by their hashes; the project without its dependencies.
FROM ${PYTHON} AS build
WORKDIR /src
COPY docker/requirements docker/requirements
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /opt/tools && python -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip install --require-hashes --requirement docker/requirements/build.txt
COPY . .
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM build AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip docker/install.sh cpu
FROM build AS build-gpu
RUN --mount=type=cache,target=/root/.cache/pip docker/install.sh gpu
FROM build AS build-train
RUN --mount=type=cache,target=/root/.cache/pip docker/install.sh train

# Without a cache that can be written, Python would compile its own library anew at each start.
FROM ${PYTHON} AS trimmed
RUN cd /usr/local/lib/python3.11 \
    && rm -rf ensurepip idlelib lib2to3 test tkinter turtledemo site-packages/* /usr/local/bin/pip* /usr/local/include \
       /root/.cache /usr/share/locale /usr/share/doc/*/changelog* /var/cache/* /var/lib/apt/lists/* \
    && python -m compileall -q . && mkdir --mode=775 /state /bundles

# One layer, so that what was removed takes no room.
FROM scratch AS base
COPY --from=trimmed / /
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/state PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /state
USER 10001:0
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="anomoe" \
      org.opencontainers.image.description="Mixture-of-experts visual anomaly detection" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS train
COPY --from=build-train /opt/venv /opt/venv
CMD ["anomoe-train", "--help"]

FROM base AS serving
ENV ANOMOE_HOST=0.0.0.0 ANOMOE_PORT=8000 ANOMOE_STATE_DIR=/state
COPY docker/entrypoint.sh docker/healthcheck.py LICENSE /app/
COPY bundles /app/bundles
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["serve"]

# CUDA and cuDNN come as wheels; the driver comes from the host.
FROM serving AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/venv /opt/venv

FROM serving AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
