# A worker: Celery, torch and the models that it keeps loaded, on the CPU by default.
# Build from the root of the repository: docker build -f docker/worker.Dockerfile -t tailprune-worker .
#
# BASE         any Debian or Ubuntu image; for a GPU a CUDA runtime (docker-compose.yml names one).
# TORCH_INDEX  a further package index to take torch from, when the default one's build is not the one you want:
#              PyTorch's own installation page names one for the CPU and one for each version of CUDA.
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS base
# CUDA images come without Python. Its version is the distribution's: there is nothing to pin.
# hadolint ignore=DL3008
RUN python3 -c "import ensurepip" \
 || { apt-get update \
   && apt-get install --yes --no-install-recommends python3 python3-venv \
   && rm -rf /var/lib/apt/lists/*; }


FROM base AS build
ARG TORCH_INDEX=""
WORKDIR /build
RUN python3 -m venv /opt/tailprune
ENV PATH=/opt/tailprune/bin:$PATH

# Dependencies come before the code, so that a change of code leaves torch's layer as it is. The lock has all but torch
# and the CUDA libraries that it requires: each build of it has hashes of its own.
COPY constraints.txt docker/worker.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps -r worker.lock \
 && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip install -c constraints.txt torch

COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY tailprune tailprune
COPY workers workers
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
 && pip uninstall --yes pip


FROM base
# The same user in both images: service and workers write to one volume.
RUN groupadd --gid 10001 tailprune \
 && useradd --uid 10001 --gid tailprune --no-create-home --home-dir /tmp tailprune \
 && install --directory --owner tailprune --group tailprune --mode 0700 /data
COPY --from=build /opt/tailprune /opt/tailprune
COPY docker/worker_health.py /opt/tailprune/
ENV PATH=/opt/tailprune/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TAILPRUNE_DATA_DIR=/data \
    TAILPRUNE_HUB_CACHE=/data/hub \
    TAILPRUNE_REGISTRY=/models/models.toml \
    TAILPRUNE_LOG_FORMAT=json

WORKDIR /opt/tailprune
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "worker_health.py"]
CMD ["python", "-m", "celery", "-A", "workers.app", "worker", "--pool", "threads", "--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
