# Two images from one file, built from source:
#   agenticore   the binary alone: serves, queues, drains, and is the client; runs no agent
#   claude       the same with git, Claude Code and the tools that agents call (the default)
#
#   make images            builds both with docker, podman or buildah
#
# A release gives both bases by digest. Mirrors and their certificates are the builder's: see
# scripts/image/builder-side.sh.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY scripts/static.sh scripts/
COPY scripts/image/builder-side.sh scripts/image/
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem,required=false,mode=0444 \
    --mount=type=secret,id=apt,target=/run/secrets/apt.list,required=false,mode=0444 \
    . scripts/image/builder-side.sh && \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates && \
    STATIC_LIBC=musl scripts/static.sh --tools
COPY . .
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem,required=false,mode=0444 \
    --mount=type=secret,id=apt,target=/run/secrets/apt.list,required=false,mode=0444 \
    --mount=type=secret,id=cargo,target=/run/secrets/cargo.toml,required=false,mode=0444 \
    . scripts/image/builder-side.sh && STATIC_LIBC=musl scripts/static.sh && scripts/image/rootfs.sh

FROM scratch AS agenticore
COPY --from=build /rootfs/both/ /
COPY --from=build /rootfs/scratch/ /
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="agenticore" \
      org.opencontainers.image.description="Takes coding tasks, queues them, and runs Claude Code for each; the binary alone" \
      org.opencontainers.image.source="https://github.com/the-cloud-clock-work/agenticore" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# It holds neither git nor Claude: it takes requests and runs nothing, unless somebody says otherwise.
ENV PATH=/usr/local/bin HOME=/home/agenticore AGENTICORE_HOST=0.0.0.0 AGENTICORE_TRANSPORT=sse \
    AGENTICORE_MAX_PARALLEL_JOBS=0 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 1000:0
WORKDIR /home/agenticore
EXPOSE 8200
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/agenticore", "status", "--alive"]
ENTRYPOINT ["/agenticore"]

FROM ${BASE} AS claude-code
ARG NPM_REGISTRY=https://registry.npmjs.org
COPY scripts/image /scripts/
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem,required=false,mode=0444 \
    --mount=type=secret,id=apt,target=/run/secrets/apt.list,required=false,mode=0444 \
    . /scripts/builder-side.sh && \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates curl && \
    /scripts/claude-code.sh

FROM ${BASE} AS claude
ARG PIP_INDEX_URL=https://pypi.org/simple
ARG AGENTIHOOKS_VERSION=2.17.0
RUN --mount=type=bind,from=claude-code,source=/scripts,target=/scripts \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem,required=false,mode=0444 \
    --mount=type=secret,id=apt,target=/run/secrets/apt.list,required=false,mode=0444 \
    . /scripts/builder-side.sh && /scripts/tools.sh
COPY --from=claude-code /rootfs/ /
COPY --from=build /rootfs/both/ /
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="agenticore" \
      org.opencontainers.image.description="Takes coding tasks, queues them, and runs Claude Code for each" \
      org.opencontainers.image.source="https://github.com/the-cloud-clock-work/agenticore" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/agenticore AGENTICORE_HOST=0.0.0.0 AGENTICORE_TRANSPORT=sse \
    AGENTICORE_AGENTIHOOKS=true LANG=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 1000:0
WORKDIR /home/agenticore
EXPOSE 8200
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/agenticore", "status", "--alive"]
ENTRYPOINT ["/agenticore"]
