# One file, one image per service: docker build --build-arg SERVICE=gateway|recorder|orchestrator|compute|identity|cli .
# Each image holds only what its service's extra asks for. What belongs to the example is a stage of its own.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG SERVICE
WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
COPY contracts contracts
COPY plugins plugins
COPY services services
# With bytecode: the image is read-only, and without it each start would compile every module anew.
RUN pip install --no-cache-dir --prefix=/install -c constraints.txt ".[${SERVICE}]"

FROM ${PYTHON_IMAGE} AS service
ARG SERVICE
LABEL org.opencontainers.image.title="dinrail ${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0"
# uid 1000 is the first user of most boxes and InfluxDB's own: they all may read the site's 0600 secrets. Who writes the
# broker's files is the broker's user instead.
ARG OWNER=1000
RUN mkdir -p /site /data && chown ${OWNER}:${OWNER} /site /data
COPY --from=build /install /usr/local
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DINRAIL_CONFIG=/site/dinrail.yaml
WORKDIR /site
USER ${OWNER}:${OWNER}

# The demo plant's simulators, and `dinrail init`, which copies the plant's device files.
FROM service AS example
COPY examples /usr/local/lib/python3.11/site-packages/examples
CMD ["python", "-m", "examples.plant.simulate", "--host", "0.0.0.0", "--modbus-port", "15020", "--opcua-port", "48400"]
