# syntax=docker/dockerfile:1
# For CPUs:         docker build --tag a2p-live .
# For NVIDIA GPUs:  docker build --tag a2p-live:cuda --build-arg VARIANT=cuda .
# docs/operations.md tells how to run it.
ARG VARIANT=cpu

FROM python:3.11-slim-bookworm AS base-cpu

# CTranslate2 wants cuBLAS 12 and cuDNN 9; torch brings its own CUDA along.
FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 AS base-cuda
# Versions come with the base image, which is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM base-${VARIANT} AS build
# An index with torch for CPUs alone saves gigabytes; pip reads the variable.
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv /opt/a2p
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY a2p_engine a2p_engine
COPY streaming streaming
COPY clients clients
RUN /opt/a2p/bin/pip install --no-cache-dir --constraint constraints.txt .

# hadolint ignore=DL3006
FROM base-${VARIANT}
RUN useradd --uid 10001 --home-dir /var/lib/a2p --create-home --shell /usr/sbin/nologin a2p
COPY --from=build /opt/a2p /opt/a2p
ENV PATH=/opt/a2p/bin:$PATH \
    XDG_CACHE_HOME=/var/lib/a2p/cache \
    PYTHONUNBUFFERED=1 \
    A2P_HOST=0.0.0.0 \
    A2P_LOG_FORMAT=json
# Weights, pronunciations and compiled code: what would otherwise be made again each time.
VOLUME /var/lib/a2p
USER 10001
WORKDIR /var/lib/a2p
EXPOSE 8765
STOPSIGNAL SIGTERM
# Not /readyz: a server that is full is not ready, and it would be a mistake to restart it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["a2p"]
CMD ["serve"]
