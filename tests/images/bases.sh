# shellcheck shell=bash
# Stand-ins for the base images, for machines that can pull none: made of Debian's packages, of this machine's
# Rust and of the RabbitMQ that the other tests unpack. Each is made once and kept by the engine. Sourced by
# run.sh.

# Sets RUST_IMAGE, RUNTIME_IMAGE and RABBITMQ_IMAGE to images that are there.
bases_ensure() {
    if [[ -n ${ORDERWRIGHT_PULL:-} ]]; then
        RUST_IMAGE=rust:1.95-slim-bookworm
        RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
        RABBITMQ_IMAGE=rabbitmq:4-management
        return
    fi
    RUST_IMAGE=orderwright-test/rust
    RUNTIME_IMAGE=orderwright-test/runtime
    RABBITMQ_IMAGE=orderwright-test/rabbitmq
    # Not by `||`: within that a command that fails would not end the script.
    if ! image_is_there orderwright-test/debian; then debian_image; fi
    if ! image_is_there "$RUST_IMAGE"; then rust_image; fi
    if ! image_is_there "$RUNTIME_IMAGE"; then runtime_image; fi
    if ! image_is_there "$RABBITMQ_IMAGE"; then rabbitmq_image; fi
}

image_is_there() { docker image inspect "$1" >/dev/null 2>&1; }

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
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,make bookworm "$work/root" \
        "$mirror" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        return 1
    }
    tar -C "$work/root" --exclude='./proc/*' --exclude='./sys/*' -c . |
        docker import - orderwright-test/debian >/dev/null
    debian_tidy
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
    docker build --quiet --network=host --tag "$RUST_IMAGE" \
        --build-context toolchain="$(realpath "$(rustc --print sysroot)")" --build-context crates="$home/registry" - \
        <<'DOCKERFILE' >/dev/null
FROM orderwright-test/debian
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
    docker build --quiet --network=host --tag "$RUNTIME_IMAGE" - <<'DOCKERFILE' >/dev/null
FROM orderwright-test/debian AS debian
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
    ORDERWRIGHT_BROKER=unpacked "$REPOSITORY/deploy/local/broker.sh" fetch
    note "making an image with RabbitMQ"
    docker build --quiet --network=host --tag "$RABBITMQ_IMAGE" \
        --build-context rabbitmq="$CACHE/rabbitmq-trixie/root" --file - "$HERE" <<'DOCKERFILE' >/dev/null
FROM orderwright-test/debian
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
