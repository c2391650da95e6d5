# Targets: cpu and gpu serve bundles, train makes them.
#   docker build --target cpu -t anomoe .
#   docker run -p 8000:8000 -v "$PWD/my-bundles:/bundles:ro" anomoe

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY training training
COPY export export
COPY service service
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS service-files
COPY --from=build /wheels /wheels
COPY bundles /app/bundles
COPY docker/entrypoint.sh /app/entrypoint.sh

FROM python:3.11-slim-bookworm AS cpu
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/anomoe-*.whl)[cpu]"
RUN useradd --uid 1000 anomoe && install -d -o anomoe -g anomoe /bundles /state
COPY --from=service-files /app /app
WORKDIR /state
USER anomoe
ENV ANOMOE_HOST=0.0.0.0 ANOMOE_PORT=8000 PYTHONUNBUFFERED=1
EXPOSE 8000
VOLUME ["/bundles", "/state"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"ANOMOE_PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["serve"]
