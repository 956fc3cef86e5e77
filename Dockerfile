# The node as a container: docker build -t dicom-node .
# With CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t dicom-node:cuda .
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/node
COPY constraints.txt ./
RUN /opt/node/bin/pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY dicom_node ./dicom_node
COPY inference ./inference
COPY part10 ./part10
COPY sr_writer ./sr_writer
RUN /opt/node/bin/pip install --no-cache-dir -c constraints.txt '.[postgresql,oidc,s3]'

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="dicom-node" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 node && useradd --system --uid 10001 --gid node --home-dir /data --shell /usr/sbin/nologin node \
    && mkdir -p /data /config && chown node:node /data
COPY --from=build /opt/node /opt/node
COPY config /config
ENV PATH=/opt/node/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DICOM_NODE__NODE__DATA_DIR=/data \
    DICOM_NODE__WEB__HOST=0.0.0.0 \
    DICOM_NODE__WEB__ACCESS=tokens
USER node
VOLUME /data
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["dicom-node"]
CMD ["serve", "-c", "/config/node.yaml"]
