#!/bin/bash
# Unpack a packed environment to this host's own disk, once per host, and put it on PATH.
# Sourced by an activation; RAY_SLURM_ARCHIVE names the archive.
[ -r "$RAY_SLURM_ARCHIVE" ] || {
    echo "[job] provider.environment.archive: $RAY_SLURM_ARCHIVE cannot be read on $HOSTNAME" >&2
    return 1
}
# Another content is another folder: path, size and modification time stand for it.
key=$(stat -L -c '%n %s %.9Y' "$RAY_SLURM_ARCHIVE" | sha256sum | cut -c1-16)
# One folder for all environments. Its name is known to everybody: where somebody else made a folder of
# that name, one of a name that nobody knows takes its place.
base=$(
    # shellcheck source=slurm_provider/job_scripts/own_folder.sh
    . "${BASH_SOURCE[0]%/*}/own_folder.sh" || exit
    problems=
    for folder in "$SLURM_TMPDIR" "$TMPDIR" /tmp; do
        [ -n "$folder" ] || continue
        known=$folder/rs-env-$(id -u)
        problem=$(way_problem "$folder")
        if [ -z "$problem" ]; then
            for base in "$known" "$known".*; do
                if [ "$base" != "$known" ] && [ ! -d "$base" ]; then continue; fi
                problem=$(make_own_folder "$base" 2>&1) && [ -z "$problem" ] && echo "$base" && exit
                problems="$problems; $problem"
            done
            problem=$(mktemp -d "$known.XXXXXXXX" 2>&1) && echo "$problem" && exit
        fi
        problems="$problems; $problem"
    done
    echo "[job] no folder to unpack $RAY_SLURM_ARCHIVE into: ${problems#; }" >&2
    exit 1
) || return 1
prefix=$base/$key
(
    # Many nodes may start on one host at once: one unpacks, the others wait for it.
    flock 9 || exit 1
    if [ -e "$prefix/.complete" ]; then
        touch "$prefix/.complete"
        exit 0
    fi
    # Make room: what a killed job left half unpacked, and what no job asked for in a week.
    for old in "$base"/*/; do
        old=${old%/}
        if [ -n "$(find "$old/.complete" -mtime +7 2> /dev/null)" ]; then
            # The mark first: a removal that is killed must not leave half an environment marked whole.
            # shellcheck disable=SC2016
            flock -n "$old/.complete" sh -c 'rm -f "$1/.complete" && rm -rf "$1"' sh "$old"
        elif [ -d "$old" ] && [ ! -e "$old/.complete" ]; then
            rm -rf "$old"
        fi
    done
    rm -rf "$prefix" && mkdir "$prefix" && tar -xf "$RAY_SLURM_ARCHIVE" -C "$prefix" || exit 1
    # conda-pack leaves this program to repair the prefixes inside the environment.
    if [ -x "$prefix/bin/conda-unpack" ]; then "$prefix/bin/python" "$prefix/bin/conda-unpack" || exit 1; fi
    : > "$prefix/.complete"
) 9> "$base/lock" || {
    echo "[job] unpacking $RAY_SLURM_ARCHIVE to $prefix failed" >&2
    return 1
}
# Held as long as the job's first process lives: an environment in use is not collected.
exec 8< "$prefix/.complete" && flock -s 8
export PATH="$prefix/bin:$PATH"
