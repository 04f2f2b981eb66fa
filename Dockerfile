# Relevo's images: one per service (`--target service --build-arg SERVICE=conversation`), and `relevo`, the command line
# that prepares keys, databases and streams. They share every layer but the last. `make images` builds them all.
# A release pins the base by digest too: --build-arg BASE=python:3.13-slim-trixie@sha256:…
ARG BASE=python:3.13-slim-trixie

# -- third parties, by hash: changes seldom ------------------------------------------------------------------------------
FROM ${BASE} AS dependencies
# Mirrors, where a place has its own; unset, the installers' defaults hold. Nothing of it reaches the images.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_LINK_MODE=copy
COPY tools.lock /build/
RUN python -m venv /build/tools \
 && /build/tools/bin/python -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --require-hashes -r /build/tools.lock
COPY deploy/requirements.lock /build/
RUN /build/tools/bin/uv venv -q --python python3 /opt/python \
 && /build/tools/bin/uv pip install -q --python /opt/python --no-deps --require-hashes --compile-bytecode -r /build/requirements.lock

# -- what every image has -------------------------------------------------------------------------------------------------
FROM ${BASE} AS runtime
# A new volume takes owner and mode from the folder that it is first mounted on.
RUN groupadd --gid 10001 relevo && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin relevo \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/relevo /var/lib/relevo/files
COPY --from=dependencies /opt/python /opt/python
ENV PATH=/opt/python/bin:/opt/relevo/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/relevo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/relevo
USER 10001:10001

# -- the command line -----------------------------------------------------------------------------------------------------
FROM dependencies AS relevo-build
ARG VERSION=0.1.0
COPY libs /build/libs
COPY services /build/services
COPY deploy/sbom.py /build/
RUN /build/tools/bin/uv pip install -q --offline --no-sources --python /opt/python --no-deps --compile-bytecode --target /opt/relevo /build/libs/* /build/services/* \
 && python3 /build/sbom.py relevo "${VERSION}" /opt/relevo /opt/python/lib/python3*/site-packages >/opt/relevo/sbom.cdx.json

FROM runtime AS relevo
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=relevo-build /opt/relevo /opt/relevo
# PostgreSQL runs as 999 in its image.
USER 0:0
RUN for name in identity ingest conversation presence assignment automation reporting channels realtime notification nats nats-data edge; do \
      install -d -o 10001 -g 10001 -m 0700 "/prepared/$name"; done \
 && install -d -o 10001 -g 999 -m 0750 /prepared/postgres
USER 10001:10001
ENV RELEVO_HOME=/var/lib/relevo RELEVO_PREPARED=/prepared
ENTRYPOINT ["python", "-m", "relevo.stack"]
CMD ["--help"]
LABEL org.opencontainers.image.title="relevo" \
      org.opencontainers.image.description="Relevo: the command line" \
      org.opencontainers.image.vendor="the Relevo authors" \
      org.opencontainers.image.licenses="LicenseRef-Relevo-Evaluation" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      relevo.sbom="/opt/relevo/sbom.cdx.json"

# -- one service ----------------------------------------------------------------------------------------------------------
FROM dependencies AS service-build
ARG SERVICE
ARG VERSION=0.1.0
COPY libs/contracts /build/libs/contracts
COPY libs/kernel /build/libs/kernel
COPY libs/chassis /build/libs/chassis
COPY services/${SERVICE} /build/services/${SERVICE}
COPY deploy/sbom.py deploy/healthcheck.py /build/
RUN /build/tools/bin/uv pip install -q --offline --no-sources --python /opt/python --no-deps --compile-bytecode --target /opt/relevo \
      /build/libs/contracts /build/libs/kernel /build/libs/chassis /build/services/${SERVICE} \
 && mkdir -p /opt/relevo/bin && cp /build/healthcheck.py /opt/relevo/bin/ \
 && printf '#!/bin/sh\nexec python -m relevo.%s "$@"\n' "${SERVICE}" >/opt/relevo/bin/service && chmod 755 /opt/relevo/bin/service \
 && python3 /build/sbom.py "relevo-${SERVICE}" "${VERSION}" /opt/relevo /opt/python/lib/python3*/site-packages >/opt/relevo/sbom.cdx.json

FROM runtime AS service
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=service-build /opt/relevo /opt/relevo
ENV RELEVO_HTTP_HOST=0.0.0.0 RELEVO_HTTP_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-IS", "/opt/relevo/bin/healthcheck.py"]
# The script becomes the interpreter (exec): that is process 1, hears SIGTERM, drains and ends with 0.
ENTRYPOINT ["/opt/relevo/bin/service"]
CMD ["serve"]
LABEL org.opencontainers.image.title="relevo-${SERVICE}" \
      org.opencontainers.image.description="Relevo: the service ${SERVICE}" \
      org.opencontainers.image.vendor="the Relevo authors" \
      org.opencontainers.image.licenses="LicenseRef-Relevo-Evaluation" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      relevo.sbom="/opt/relevo/sbom.cdx.json"
