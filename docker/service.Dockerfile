# The HTTP service, without torch: it reads Redis and the artifacts, and loads no model.
# Build from the root of the repository: docker build -f docker/service.Dockerfile -t tailprune-service .
#
# BASE         any Debian or Ubuntu image with Python 3.11 or newer; a digest (python:3.11-slim-bookworm@sha256:...) keeps it.
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS build
WORKDIR /build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/tailprune
ENV PATH=/opt/tailprune/bin:$PATH

# Dependencies come before the code, so that a change of code leaves their layer as it is. Packages bring 70 MB of symbols
# for debuggers, of headers and of tests. Those in numpy.libs stay: strip would break the alignment that they were given.
COPY docker/service.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps --no-compile -r service.lock \
 && find /opt/tailprune -name '*.so' -not -path '*/numpy.libs/*' -exec strip --strip-unneeded {} + \
 && find /opt/tailprune -type d -name tests -prune -exec rm -r {} + \
 && find /opt/tailprune -type f -regex '.*\.\(a\|c\|h\|pyi\|pxd\|pyx\)' -delete

COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY service service
COPY tailprune/spec tailprune/spec
COPY tailprune/widget/*.js tailprune/widget/
COPY tailprune_client tailprune_client
# Python writes its bytecode for what the service imports, and for nothing else: in the image it cannot.
RUN pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && pip uninstall --yes setuptools pip \
 && python -P -c "import service.app, service.server, jobs.storage.upload_parsing, safetensors.numpy, typer.main as typer, service.cli as cli; \
    list(typer.get_command(cli.app).commands.values())"


FROM ${BASE}
# The same user in both images: service and workers write to one volume.
RUN groupadd --gid 10001 tailprune \
 && useradd --uid 10001 --gid tailprune --no-create-home --home-dir /tmp tailprune \
 && install --directory --owner tailprune --group tailprune --mode 0700 /data
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
