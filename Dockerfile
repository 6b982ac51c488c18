# docker build -t global-attention .
# docker run -v "$PWD/runs:/runs" global-attention train.py
ARG BASE=python:3.6.15-slim-bullseye
FROM ${BASE}

# HOME: matplotlib and Keras keep files there, and under `docker run --user` no home directory is writable.
ENV LANG=C.UTF-8 HOME=/tmp
WORKDIR /app
LABEL org.opencontainers.image.title="global-attention" org.opencontainers.image.version="2.0.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# Before the code, so that a change to the code does not install again.
COPY requirements-pip.txt requirements.txt requirements-serve.txt requirements-dev.txt ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-pip.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements-serve.txt \
 && python -c 'import tensorflow'
# For `docker run IMAGE test`.
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-dev.txt

RUN useradd --uid 1000 --no-create-home --home-dir /tmp user \
 && mkdir /data /runs && chmod 1777 /runs && ln -s /runs runs
COPY . .
USER user
VOLUME ["/data", "/runs"]
# serve.py --host 0.0.0.0
EXPOSE 8000

# As process 1 Python would ignore SIGTERM; SIGINT it takes as Ctrl-C.
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/app/docker-entrypoint.sh"]
