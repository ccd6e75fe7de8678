# shellcheck shell=bash
# What tests/sim/mutants.sh and tests/chaos/mutants.sh have in common, which source it from the root of the tree: a copy of
# the tree that is broken by one patch, and the names that are wanted. They say in PATCHES where the patches are.

CARGO=${CARGO:-cargo}
TARGET=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")
WORK=$TARGET/mutants
TREE=$WORK/tree

# What the patch NAME says of itself in its line FIELD.
field() { sed -n "s/^$2: //p" "$PATCHES/$1.patch"; }

# Builds what the flags of cargo name, broken by the patch NAME. Git must not take the copy for a part of the repository
# around it: it would apply nothing.
build() {
    local name=$1
    shift
    rm -rf -- "$TREE" && mkdir -p -- "$TREE" "$WORK/logs" || return 1
    git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$TREE" || return 1
    (cd -- "$TREE" && GIT_CEILING_DIRECTORIES=$WORK git apply "$OLDPWD/$PATCHES/$name.patch") || return 1
    # Cargo goes by the time of a file, and one that is no longer patched would look old.
    find "$TREE" -name '*.rs' -exec touch {} +
    (cd -- "$TREE" && CARGO_TARGET_DIR=$WORK/target "$CARGO" build --quiet "$@") 2>"$WORK/logs/$name.build"
}

# The names that were given, or else those of all patches, into `names`.
wanted_names() {
    names=("$@")
    ((${#names[@]} == 0)) || return 0
    local patch
    for patch in "$PATCHES"/*.patch; do names+=("$(basename -- "$patch" .patch)"); done
}
