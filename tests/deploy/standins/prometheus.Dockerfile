# Debian's Prometheus in the place of the image prom/prometheus, which cannot be had without a registry.
FROM debian:bookworm-slim
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends prometheus busybox \
 && ln -s busybox /bin/wget && mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus"]
