# The node as a container: docker build -t dicom-node .
# With CUDA: docker build --build-arg TORCH=cuda -t dicom-node:cuda .
# What is installed is fixed by locks/ and by the base image, which a release names by its digest:
#   --build-arg BASE=debian:bookworm-slim@sha256:...
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG SOURCE_DATE_EPOCH=0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
RUN python3 -m venv /opt/node
WORKDIR /src
COPY locks ./locks
RUN /opt/node/bin/pip install --no-compile --require-hashes --no-deps --only-binary=:all: \
    --extra-index-url "${TORCH_INDEX}" -r locks/node.txt -r "locks/torch-${TORCH}.txt"
COPY pyproject.toml README.md LICENSE ./
COPY dicom_node ./dicom_node
COPY inference ./inference
COPY part10 ./part10
COPY sr_writer ./sr_writer
# Byte code that does not depend on the time of its sources (a file of torch's tests is for newer Pythons), and no pip in
# what is shipped.
RUN /opt/node/bin/pip install --no-compile --no-deps --no-index --no-build-isolation . \
    && /opt/node/bin/pip uninstall -y -q pip \
    && /opt/node/bin/python -m compileall -q -j 0 -x '/py312_intrinsics' --invalidation-mode unchecked-hash /opt/node/lib \
    && find /opt/node -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="dicom-node" org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && groupadd --system --gid 10001 node \
    && useradd --system --uid 10001 --gid node --home-dir /data --no-create-home --shell /usr/sbin/nologin node \
    && mkdir -p /config && install -d -m 0750 -o node -g node /data
COPY --from=build /opt/node /opt/node
COPY config/node.yaml /config/
ENV PATH=/opt/node/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    DICOM_NODE__NODE__DATA_DIR=/data \
    DICOM_NODE__WEB__HOST=0.0.0.0 \
    DICOM_NODE__WEB__ACCESS=tokens
USER 10001:10001
VOLUME /data
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["dicom-node"]
CMD ["serve", "-c", "/config/node.yaml"]
