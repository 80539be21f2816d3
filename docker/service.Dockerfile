# The HTTP service, without torch: it reads Redis and the artifacts, and loads no model.
# Build from the root of the repository: docker build -f docker/service.Dockerfile -t tailprune-service .
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/tailprune
ENV PATH=/opt/tailprune/bin:$PATH

# Dependencies come before the code, so that a change of code leaves their layer as it is.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ".[service]"

COPY jobs jobs
COPY service service
COPY tailprune/spec tailprune/spec
COPY tailprune/widget/*.js tailprune/widget/
COPY tailprune_client tailprune_client
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --force-reinstall .


FROM ${BASE}
# The same user in both images: service and workers write to one volume.
RUN groupadd --gid 10001 tailprune \
 && useradd --uid 10001 --gid tailprune --no-create-home --home-dir /tmp tailprune \
 && install --directory --owner tailprune --group tailprune /data
COPY --from=build /opt/tailprune /opt/tailprune
ENV PATH=/opt/tailprune/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TAILPRUNE_DATA_DIR=/data \
    TAILPRUNE_HUB_CACHE=/data/hub \
    TAILPRUNE_REGISTRY=/models/models.toml \
    TAILPRUNE_LOG_FORMAT=json

WORKDIR /opt/tailprune
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
CMD ["python", "-m", "service.server", "--host", "0.0.0.0", "--port", "8000"]
