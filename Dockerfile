# One file, one image per service: docker build --build-arg SERVICE=gateway|recorder|orchestrator|compute|identity|cli .
# Each image holds what every service needs, its own extra, and dinrail: three layers, of which all images share the
# first and the last. All versions are those of constraints.txt. What belongs to the example is a stage of its own.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# pyproject.toml without the code of dinrail, so that a change of that leaves what it needs as it is. Bytecode, since the
# image is read-only and each start would compile every module anew; it names no time, so that two builds are equal.
FROM ${PYTHON_IMAGE} AS needs
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/constraints.txt
COPY constraints.txt pyproject.toml README.md ./
RUN mkdir contracts plugins services
RUN pip install --no-compile --prefix=/common . \
 && rm -rf /common/lib/python3*/site-packages/dinrail-* /common/bin/dinrail \
 && python -m compileall -f -q -s /common -p /usr/local --invalidation-mode unchecked-hash /common

FROM ${PYTHON_IMAGE} AS common
COPY --from=needs /common /usr/local

FROM common AS extra
ARG SERVICE
# Of the command line, the drivers' too: `dinrail check` loads what a device file names.
ARG EXTRAS=${SERVICE}
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/constraints.txt
COPY constraints.txt pyproject.toml README.md ./
RUN mkdir contracts plugins services
RUN pip install --no-compile --prefix=/extra ".[${EXTRAS}]" \
 && rm -rf /extra/lib/python3*/site-packages/dinrail-* /extra/bin/dinrail \
 && python -m compileall -f -q -s /extra -p /usr/local --invalidation-mode unchecked-hash /extra

FROM needs AS own
COPY contracts contracts
COPY plugins plugins
COPY services services
RUN pip install --no-compile --no-deps --prefix=/own . \
 && python -m compileall -f -q -s /own -p /usr/local --invalidation-mode unchecked-hash /own

# The bill of materials: every Python distribution of the image, with version and licence.
FROM ${PYTHON_IMAGE} AS bill-maker
COPY constraints.txt /
RUN python -m venv /maker && PIP_CONSTRAINT=/constraints.txt /maker/bin/pip install --no-cache-dir cyclonedx-bom

FROM bill-maker AS bill
COPY --from=needs /common /usr/local
COPY --from=extra /extra /usr/local
COPY --from=own /own /usr/local
RUN /maker/bin/cyclonedx-py environment --output-reproducible --output-format JSON --output-file /dinrail.cdx.json /usr/local/bin/python

FROM common AS service
ARG SERVICE
# uid 1000 is the first user of most boxes and InfluxDB's own: they all may read the site's 0600 secrets. Who writes the
# broker's files is the broker's user instead.
ARG OWNER=1000
RUN mkdir -p /site /data && chown ${OWNER}:${OWNER} /site /data
COPY --from=extra /extra /usr/local
COPY --from=own /own /usr/local
COPY --from=bill /dinrail.cdx.json /usr/share/sbom/dinrail.cdx.json
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DINRAIL_CONFIG=/site/dinrail.yaml \
    HEALTH_URL=http://127.0.0.1:8080/health
WORKDIR /site
USER ${OWNER}:${OWNER}
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=3)"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="dinrail ${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"

# The demo plant's simulators, and `dinrail init`, which copies the plant's device files.
FROM service AS example
HEALTHCHECK NONE
COPY examples /usr/local/lib/python3.11/site-packages/examples
CMD ["python", "-m", "examples.plant.simulate", "--host", "0.0.0.0", "--modbus-port", "15020", "--opcua-port", "48400"]
