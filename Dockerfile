# Two images from one build: `orderwright`, the daemon and its tools (the default), and `simulator`, the
# stand-in for Dynamics 365 of docker-compose.yml.
#
#   docker build --tag orderwright --build-arg COMMIT="$(git rev-parse --short HEAD)" .
#
# Plain Dockerfile, without a `syntax` line: that would fetch a frontend for every build. Whoever mirrors
# images, or pins them by digest, gives both bases as arguments.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
# Debian's C library, CA roots and a user 65532; no shell and no package manager.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
# `release` is what is shipped. Another profile of Cargo.toml builds faster, for tests of the image.
ARG PROFILE=release
WORKDIR /build
# All that we depend on, as a layer of its own: it is built again only when these two files change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs src/bin/orderwright-sim.rs \
    && touch src/lib.rs \
    && cargo build --locked --profile "${PROFILE}" --bins
# What .dockerignore lets in.
COPY . .
# Shown by `--version`.
ARG COMMIT=
# Cargo goes by times, and the sources are older than the empty ones that were just built. The folder is not
# named after the profile where that is `dev`.
RUN touch src/lib.rs src/main.rs src/bin/orderwright-sim.rs \
    && ORDERWRIGHT_COMMIT="${COMMIT}" cargo build --locked --profile "${PROFILE}" --bins \
    && mkdir /out \
    && find target -maxdepth 2 -type f -name 'orderwright*' -perm -u+x -exec cp {} /out/ \;

FROM ${RUNTIME_IMAGE} AS simulator
ARG VERSION=0.1.0
ARG COMMIT=
ARG SOURCE=
LABEL org.opencontainers.image.title="orderwright-sim" \
      org.opencontainers.image.description="Stands in for Dynamics 365: orders over OData, with faults and a ledger" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /out/orderwright-sim /usr/local/bin/orderwright-sim
USER 65532:65532
EXPOSE 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/orderwright-sim", "--healthcheck"]
ENTRYPOINT ["/usr/local/bin/orderwright-sim"]
CMD ["--listen", "0.0.0.0:8090", "--orders", "1000"]

FROM ${RUNTIME_IMAGE} AS orderwright
ARG VERSION=0.1.0
ARG COMMIT=
# Where the sources are kept: yours to say.
ARG SOURCE=
LABEL org.opencontainers.image.title="orderwright" \
      org.opencontainers.image.description="Applies order updates from RabbitMQ to Dynamics 365 and other OData V4 services, one writer per order" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /out/orderwright /usr/local/bin/orderwright
# By number: Kubernetes cannot tell of a name that it is not root.
USER 65532:65532
EXPOSE 9464
# Drains. Give it longer than drain.grace: `docker stop --time 40`, stop_grace_period, terminationGracePeriodSeconds.
STOPSIGNAL SIGTERM
# For Docker; Kubernetes has probes of its own. Unhealthy means: look at the log. Nothing is restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=2m --retries=3 \
    CMD ["/usr/local/bin/orderwright", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/orderwright"]
CMD ["run"]
