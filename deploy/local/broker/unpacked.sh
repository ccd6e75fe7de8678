# shellcheck shell=bash
# RabbitMQ and Erlang from Debian's packages, unpacked into the cache without root and without
# installing anything. Sourced by broker.sh.
#
# apt runs with a private state, so it neither needs root nor touches the machine's. Mirror and
# keyring are those that the machine itself uses. Erlang's programs are run by the C library they
# were built with, which is unpacked beside them, so the machine may be an older Debian.

# Written into each unpacked tree. Raise it when the steps below change: older trees are replaced.
RECIPE=1

unpacked_available() {
    case $SUITE in
    bookworm | trixie | sid) ;;
    *)
        because "unpacked: ORDERWRIGHT_BROKER_SUITE is '$SUITE': it must be bookworm, trixie or sid"
        return 1
        ;;
    esac
    local tree=$CACHE/rabbitmq-$SUITE
    if ! unpacked_is_there "$tree"; then
        unpacked_possible || return 1
        mkdir -p -- "$CACHE" || return 1
        # 900 s: 70 MB through a slow link. Waiting for another process counts as well.
        if ! bounded 900 unpacked_fetch "$tree"; then
            because "unpacked: the packages of $SUITE could not be fetched or unpacked (see above)"
            return 1
        fi
    fi
    # shellcheck disable=SC2034 # node.sh reads both
    ERLANG_BIN=$tree/root/usr/lib/erlang/bin
    # shellcheck disable=SC2034
    SBIN=$(compgen -G "$tree/root/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
}

# The tree appears by a rename when it is complete, so that it is there means that it is whole.
unpacked_is_there() {
    [[ -r $1/recipe && $(<"$1/recipe") == "$RECIPE $(dpkg --print-architecture 2>/dev/null)" ]]
}

unpacked_possible() {
    local tool id
    id=$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-}")
    if [[ $id != debian ]]; then
        because "unpacked: this machine is not Debian (${id:-unknown}), so it has no mirror with these packages"
        return 1
    fi
    for tool in apt-get dpkg-deb tar flock setsid; do
        command -v "$tool" >/dev/null && continue
        because "unpacked: $tool is not installed"
        return 1
    done
}

# Under a lock, so that of several test processes one fetches and the others wait for it.
unpacked_fetch() (
    umask 022
    tree=$1
    exec 9>"$tree.lock" || exit 1
    if ! flock --nonblock 9; then
        note "another process fetches RabbitMQ; waiting for it"
        flock 9
    fi
    if unpacked_is_there "$tree"; then exit 0; fi
    # Left by a fetch that was killed: no other can run now.
    rm -rf -- "$tree".new.*
    new=$tree.new.$$
    trap 'rm -rf -- "$new"' EXIT
    trap 'exit 1' TERM INT
    note "fetching RabbitMQ and Erlang from Debian's $SUITE (once; about 60 MB)"
    mkdir -p "$new/root" &&
        download "$new/apt" rabbitmq-server &&
        unpack "$new/apt/cache/archives" "$new/root" &&
        relocate "$new/root" &&
        rm -rf -- "$new/apt" "$tree" &&
        printf '%s %s\n' "$RECIPE" "$(dpkg --print-architecture)" >"$new/recipe" &&
        mv -- "$new" "$tree" &&
        note "RabbitMQ is ready in $tree"
)

# Fetches packages with all that they depend on.
download() {
    fetch_by "$1" install --yes --download-only "${@:2}"
}

# Fetches packages and nothing that they depend on.
download_alone() {
    fetch_by "$1" download "${@:2}"
}

# Tries the machine's Debian sources one by one: which of them carries the suite only apt can tell.
fetch_by() {
    local apt=$1 source number=0
    shift
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc" "$apt/none" "$apt/sources"
    : >"$apt/status"
    write_apt_configuration "$apt" >"$apt/apt.conf"
    write_sources "$apt/sources"
    for source in "$apt"/sources/*; do
        [[ -e $source ]] || break
        number=$((number + 1))
        rm -f "$apt"/etc/*
        cp "$source" "$apt/etc/"
        # `download` writes where it stands, `install` into the cache.
        if apt-get --config-file "$apt/apt.conf" -qq update >&2 &&
            (cd "$apt/cache/archives" && apt-get --config-file "$apt/apt.conf" -qq "$@" >&2); then
            return 0
        fi
    done
    note "none of the $number Debian sources in apt's configuration has $SUITE"
    return 1
}

# Read after the machine's own configuration, so proxies and credentials still count, but none of
# its hooks: they would act on the machine's files.
write_apt_configuration() {
    local apt=$1
    cat <<APT
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Log "$apt";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/etc";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/none";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
#clear APT::Architectures;
APT::Architectures { "$(dpkg --print-architecture)"; };
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
APT
    # A mirror's copy of sid may be older than its stamp allows. The signature is still checked.
    [[ $SUITE != sid ]] || printf 'Acquire::Check-Valid-Until "false";\n'
}

# Copies each of the machine's sources of Debian itself into a file of its own, with the suite
# changed: in the one-line form (*.list) and in deb822 (*.sources), whose key may be inline.
write_sources() {
    local dir=$1 codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk -v suite="$SUITE" -v own="$codename" -v dir="$dir" '
            $1 == "deb" {
                options = ""; at = 2
                if ($2 ~ /^\[/) {
                    while (at <= NF) { options = options " " $at; if ($at ~ /\]$/) break; at++ }
                    at++
                }
                if (!is_debian($(at + 1)) || !has_main(at + 2)) next
                print "deb" options, $at, suite, "main" > (dir "/" ++n ".list")
            }
            function is_debian(word) {
                return word == own || word ~ /^(oldoldstable|oldstable|stable|testing|unstable|sid)$/
            }
            function has_main(from) { for (; from <= NF; from++) if ($from == "main") return 1; return 0 }
        '
    cat_with_gaps /etc/apt/sources.list.d/*.sources |
        awk -v suite="$SUITE" -v own="$codename" -v dir="$dir" '
            BEGIN { RS = ""; FS = "\n" }
            {
                debian = 0; main = 0; binary = 0; off = 0; text = ""; replaced = 0
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^#/) continue
                    if ($i ~ /^[^ \t]/) { key = tolower($i); sub(/:.*/, "", key) }
                    value = " " $i " "; sub(/^ [^ \t:]*:/, " ", value); gsub(/\t/, " ", value)
                    if (key == "suites") {
                        if (value ~ (" (" own "|oldoldstable|oldstable|stable|testing|unstable|sid) ")) debian = 1
                    } else if (key == "components") { if (value ~ / main /) main = 1 }
                    else if (key == "types") { if (value ~ / deb /) binary = 1 }
                    else if (key == "enabled") { if (tolower(value) ~ / (no|false|0|off) /) off = 1 }
                    else text = text $i "\n"
                }
                if (debian && main && binary && !off)
                    printf "Types: deb\nSuites: %s\nComponents: main\n%s", suite, text > (dir "/" ++n ".sources")
            }
        '
}

# Stanzas are told apart by empty lines, which a file need not end with.
cat_with_gaps() {
    local file
    for file in "$@"; do
        [[ -r $file ]] || continue
        cat -- "$file"
        printf '\n\n'
    done
}

# Only what runs: Erlang, the server, and the libraries that Erlang's programs are linked with.
unpack() {
    local archives=$1 root=$2 package dir
    # Debian's merged /usr: packages of before the merge then unpack into the same place.
    for dir in bin sbin lib lib64; do
        mkdir -p "$root/usr/$dir"
        ln -s "usr/$dir" "$root/$dir"
    done
    for package in "$archives"/*.deb; do
        case ${package##*/} in
        erlang-* | rabbitmq-server_* | libc6_* | libgcc-s1_* | libstdc++6_* | libtinfo6_* | \
            libncurses6_* | zlib1g_* | libssl3* | libsctp1_* | libsystemd0_* | libcap2_* | libzstd1_*)
            dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" \
                --keep-directory-symlink --no-same-owner --exclude='./usr/share/*' || return 1
            ;;
        esac
    done
}

# Puts a wrapper in the place of every Erlang program, which runs it with the C library beside it,
# and a new `erl` that finds its root by itself. All paths are relative to the wrapper, so the tree
# can be moved with its checkout.
relocate() {
    local root=$1 erlang=$1/usr/lib/erlang loader libraries program erts
    loader=$(compgen -G "$root/usr/lib/*-linux-gnu/ld-linux-*.so.*" | head -n 1)
    libraries=${loader%/*}
    for program in "$erlang"/erts-*/bin/* "$erlang"/bin/* "$erlang"/lib/*/priv/bin/*; do
        if [[ -L $program ]]; then
            # A wrapper behind a symbolic link would look for its library beside the link.
            program_is_linked "$program"
        elif is_elf "$program"; then
            program_is_wrapped "$program" "$libraries" "${loader##*/}"
        fi || return 1
    done
    erts=$(compgen -G "$erlang/erts-*")
    # The server looks for erl in one of these places, its scripts in the other.
    write_erl "$erlang/bin/erl" .. "${erts##*/}"
    write_erl "$erts/bin/erl" ../.. "${erts##*/}"
    # It must run on this machine before anybody relies on it.
    "$erlang/bin/erl" -noshell -eval 'halt().' >&2
}

program_is_wrapped() {
    local program=$1 up
    up=$(realpath --relative-to "${program%/*}" "$2")
    mv -- "$program" "$program.real" && cat >"$program" <<WRAPPER && chmod 755 "$program"
#!/bin/sh
libraries=\${0%/*}/$up
exec "\$libraries/$3" --argv0 "\$0" --library-path "\$libraries" "\$0.real" "\$@"
WRAPPER
}

program_is_linked() {
    local program=$1 target
    target=$(readlink "$program")
    rm -f -- "$program" && cat >"$program" <<WRAPPER && chmod 755 "$program"
#!/bin/sh
exec "\${0%/*}/$target" "\$@"
WRAPPER
}

write_erl() {
    rm -f -- "$1" && cat >"$1" <<ERL && chmod 755 "$1"
#!/bin/sh
ROOTDIR=\$(cd "\${0%/*}/$2" && pwd)
BINDIR=\$ROOTDIR/$3/bin
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "\$BINDIR/erlexec" "\$@"
ERL
}

is_elf() {
    local magic
    IFS= read -r -N 4 magic <"$1" 2>/dev/null
    [[ $magic == $'\177ELF' ]]
}
