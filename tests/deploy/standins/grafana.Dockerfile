# In the place of Grafana's image, which cannot be had without a registry: its folders, its port, and what it must find.
FROM python:3.11-slim-bookworm
RUN mkdir -p /var/lib/grafana /etc/grafana/provisioning && chmod 777 /var/lib/grafana \
 && printf '#!/bin/sh\nexec python -c "import sys, urllib.request as u; u.urlopen(sys.argv[-1], timeout=3)" "$@"\n' >/usr/bin/wget \
 && chmod 755 /usr/bin/wget
COPY grafana.py /grafana.py
USER 472
CMD ["python", "/grafana.py"]
