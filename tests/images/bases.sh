# shellcheck shell=bash
# Stand-ins for the base images, for machines that can pull none: made of Debian's packages, of this machine's
# Rust and of the RabbitMQ that the other tests unpack. Each is made once and kept by the engine. Sourced by
# run.sh.

# Sets RUST_IMAGE, RUNTIME_IMAGE, RABBITMQ_IMAGE and PROMETHEUS_IMAGE to images that are there. Their tags are sums
# of what they are made of, so that none outlives its recipe, the compiler or the lock file.
bases_ensure() {
    if [[ -n ${ORDERWRIGHT_PULL:-} ]]; then
        RUST_IMAGE=rust:1.95-slim-bookworm
        RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
        RABBITMQ_IMAGE=rabbitmq:4-management
        PROMETHEUS_IMAGE=prom/prometheus:v3.5.0
        return
    fi
    ORDERWRIGHT_BROKER=unpacked "$REPOSITORY/deploy/local/broker.sh" fetch
    PROMETHEUS_TREE=$("$REPOSITORY/deploy/local/prometheus.sh")
    DEBIAN_IMAGE=orderwright-test/debian:$(made_of debian_image)
    RUST_IMAGE=orderwright-test/rust:$(made_of rust_image "$(rustc -V)" "$(<"$REPOSITORY/Cargo.lock")")
    RUNTIME_IMAGE=orderwright-test/runtime:$(made_of runtime_image)
    RABBITMQ_IMAGE=orderwright-test/rabbitmq:$(made_of rabbitmq_image "$(<"$HERE/rabbitmq.sh")" \
        "$(<"$CACHE/rabbitmq-trixie/recipe")")
    PROMETHEUS_IMAGE=orderwright-test/prometheus:$(made_of prometheus_image "$("$PROMETHEUS_TREE/prometheus" --version 2>&1)")
    image_ensure "$DEBIAN_IMAGE" debian_image
    image_ensure "$RUST_IMAGE" rust_image
    image_ensure "$RUNTIME_IMAGE" runtime_image
    image_ensure "$RABBITMQ_IMAGE" rabbitmq_image
    image_ensure "$PROMETHEUS_IMAGE" prometheus_image
}

# A sum of the recipe, without its comments, of the image that it begins with, and of what else is said.
made_of() {
    {
        declare -f "$1"
        printf '%s\n' "$DEBIAN_IMAGE" "${@:2}"
    } | sha256sum | cut -c 1-12
}

# Makes what is not there, and removes what bears the same name and is of another recipe.
image_ensure() {
    local image=$1 recipe=$2 other
    # Not by `||`: within that a command that fails would not end the script.
    if docker image inspect "$image" >/dev/null 2>&1; then return; fi
    "$recipe"
    for other in $(docker image ls --format '{{.Repository}}:{{.Tag}}' "${image%:*}"); do
        [[ $other == "$image" ]] || docker image rm "$other" >/dev/null || true
    done
}

DEBIAN_IMAGE=
PROMETHEUS_TREE=
DEBIAN_WORK=

# A Debian with a C compiler, as the official image of Rust has one.
debian_image() {
    local work mirror
    # shellcheck disable=SC2016 # apt's own
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    work=$(mktemp -d "$CACHE/debian.XXXXXX")
    note "making a Debian image (once; two minutes)"
    # In memory: on a disk the installer waits for it after every file.
    DEBIAN_WORK=$work
    mkdir "$work/root"
    mount -t tmpfs -o size=2g orderwright-test "$work/root"
    installer "$work" --variant=minbase --include=ca-certificates,gcc,libc6-dev,make bookworm "$work/root" \
        "$mirror" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        return 1
    }
    tar -C "$work/root" --exclude='./proc/*' --exclude='./sys/*' -c . |
        docker import - "$DEBIAN_IMAGE" >/dev/null
    debian_tidy
}

# Debian's own installer: this machine's, or out of its package.
installer() {
    local work=$1
    shift
    if command -v debootstrap >/dev/null; then
        debootstrap "$@"
        return
    fi
    # shellcheck disable=SC2034 # download_alone reads it
    local SUITE=bookworm
    (set +o errexit +o pipefail && download_alone "$work/installer" debootstrap)
    dpkg-deb --extract "$work"/installer/cache/archives/debootstrap_*.deb "$work/installer/root"
    DEBOOTSTRAP_DIR=$work/installer/root/usr/share/debootstrap "$work/installer/root/usr/sbin/debootstrap" "$@"
}

debian_tidy() {
    [[ -n $DEBIAN_WORK ]] || return 0
    umount "$DEBIAN_WORK/root" 2>/dev/null
    rm -rf -- "$DEBIAN_WORK"
    DEBIAN_WORK=
}

# This machine's toolchain, and the crates that it has: a build in a container may have no network.
rust_image() {
    local home=${CARGO_HOME:-$HOME/.cargo}
    note "making an image with this machine's Rust (once)"
    (cd -- "$REPOSITORY" && cargo fetch --locked --quiet)
    docker build --quiet --network=host --build-arg DEBIAN="$DEBIAN_IMAGE" --tag "$RUST_IMAGE" \
        --build-context toolchain="$(realpath "$(rustc --print sysroot)")" --build-context crates="$home/registry" - \
        <<'DOCKERFILE' >/dev/null
ARG DEBIAN
FROM ${DEBIAN}
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
COPY --from=toolchain bin /usr/local/bin
COPY --from=toolchain lib /usr/local/lib
COPY --from=crates index /usr/local/cargo/registry/index
COPY --from=crates cache /usr/local/cargo/registry/cache
DOCKERFILE
}

# The C library, CA roots, a user and nothing else: no shell, as in a distroless image.
runtime_image() {
    note "making a runtime image"
    docker build --quiet --network=host --build-arg DEBIAN="$DEBIAN_IMAGE" --tag "$RUNTIME_IMAGE" - <<'DOCKERFILE' >/dev/null
ARG DEBIAN
FROM ${DEBIAN} AS debian
RUN mkdir -p /out/lib/x86_64-linux-gnu /out/lib64 /out/etc/ssl/certs /out/tmp \
    && cp -L /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libm.so.6 \
        /lib/x86_64-linux-gnu/libgcc_s.so.1 /lib/x86_64-linux-gnu/libdl.so.2 \
        /lib/x86_64-linux-gnu/libpthread.so.0 /lib/x86_64-linux-gnu/librt.so.1 \
        /lib/x86_64-linux-gnu/libresolv.so.2 /out/lib/x86_64-linux-gnu/ \
    && cp -L /lib64/ld-linux-x86-64.so.2 /out/lib64/ \
    && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
    && echo 'nonroot:x:65532:65532::/:/nonexistent' > /out/etc/passwd \
    && echo 'nonroot:x:65532:' > /out/etc/group \
    && echo 'hosts: files dns' > /out/etc/nsswitch.conf \
    && chmod 1777 /out/tmp
FROM scratch
COPY --from=debian /out /
USER 65532:65532
DOCKERFILE
}

# The broker that the other tests unpack, where the official image has its files.
rabbitmq_image() {
    note "making an image with RabbitMQ"
    docker build --quiet --network=host --build-arg DEBIAN="$DEBIAN_IMAGE" --tag "$RABBITMQ_IMAGE" \
        --build-context rabbitmq="$CACHE/rabbitmq-trixie/root" --file - "$HERE" <<'DOCKERFILE' >/dev/null
ARG DEBIAN
FROM ${DEBIAN}
COPY --from=rabbitmq / /opt/rabbitmq
COPY rabbitmq.sh /usr/local/bin/rabbitmq-server
RUN chmod 755 /usr/local/bin/rabbitmq-server \
    && for tool in rabbitmqctl rabbitmq-diagnostics; do \
        ln -s rabbitmq-server /usr/local/bin/$tool; \
    done \
    && mkdir -p /etc/rabbitmq/conf.d /var/lib/rabbitmq
ENTRYPOINT ["/usr/local/bin/rabbitmq-server"]
VOLUME /var/lib/rabbitmq
DOCKERFILE
}

# Debian's Prometheus, which the tests of the rules unpack, where the official image has its files.
prometheus_image() {
    note "making an image with Prometheus"
    docker build --quiet --network=host --build-arg DEBIAN="$DEBIAN_IMAGE" --tag "$PROMETHEUS_IMAGE" \
        --build-context prometheus="$PROMETHEUS_TREE" - <<'DOCKERFILE' >/dev/null
ARG DEBIAN
FROM ${DEBIAN}
COPY --from=prometheus prometheus /bin/prometheus
RUN mkdir -p /etc/prometheus /prometheus && chown 65534 /prometheus
USER 65534
VOLUME /prometheus
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE
}
