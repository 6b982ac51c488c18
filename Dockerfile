# docker build -t global-attention .
# docker run -v "$PWD/runs:/runs" global-attention train.py
ARG BASE=python:3.6.15-slim-bullseye
# The base of the second target, docker build --target distributed: the same system with a C++ compiler.
ARG COMPILER_BASE=python:3.6.15-bullseye
FROM ${BASE} AS run

# HOME: matplotlib and Keras write files there, and with `docker run --user` no home directory is writable.
ENV LANG=C.UTF-8 HOME=/tmp
WORKDIR /app
LABEL org.opencontainers.image.title="global-attention" org.opencontainers.image.version="2.0.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# Install before copying the code, so that a change of the code does not repeat the installation.
COPY requirements-pip.txt requirements.txt requirements-serve.txt requirements-dev.txt ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-pip.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements-serve.txt \
 && python -c 'import tensorflow'
# Packages for `docker run IMAGE test`.
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-dev.txt

RUN useradd --uid 1000 --no-create-home --home-dir /tmp user \
 && mkdir /data /runs && chmod 1777 /runs && ln -s /runs runs
COPY . .
USER user
VOLUME ["/data", "/runs"]
# The port of `serve.py --host 0.0.0.0`.
EXPOSE 8000

# Process 1 ignores SIGTERM unless it has a handler; Python handles SIGINT as Ctrl-C.
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/app/docker-entrypoint.sh"]

FROM ${COMPILER_BASE} AS compiler
WORKDIR /app
COPY requirements-pip.txt requirements.txt requirements-distributed.txt distributed.sh ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-pip.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements.txt \
 && sh distributed.sh python

# With horovodrun, for several workers: docs/scaling.md.
FROM run AS distributed
COPY --from=compiler /usr/local/lib/python3.6/site-packages /usr/local/lib/python3.6/site-packages
COPY --from=compiler /usr/local/bin/horovodrun /usr/local/bin/

# The last target is the default.
FROM run
