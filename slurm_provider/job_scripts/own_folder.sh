#!/bin/sh
# Can nobody else change or replace what is in a folder? Functions that print the reason if somebody
# can, and nothing otherwise; put before other scripts, and sourced by jobs.

# look_own_folder FOLDER [NAME...]: it is ours, no link, closed to others, and nobody can replace it; so
# are those of the named things in it that exist. If it does not exist: nobody can replace the folders
# where it would be made.
look_own_folder() (
    folder=${1%/}
    folder=${folder:-/}
    shift
    way=$folder
    until [ -z "$way" ] || [ -e "$way" ] || [ -L "$way" ]; do way=${way%/*}; done
    if [ "$way" != "$folder" ]; then
        way_problem "$way/"
        exit
    fi
    {
        part_problem "$folder"
        for name; do
            part=$folder/${name%/}
            if [ -e "$part" ] || [ -L "$part" ]; then part_problem "$part"; fi
        done
        way_problem "$folder"
    } | head -n 1
)

# make_own_folder FOLDER [NAME...]: look at it, and make it and the NAME/ in it if they are missing,
# mode 0700. Fails where that cannot be done.
make_own_folder() {
    own_problem=$(look_own_folder "$@")
    if [ -z "$own_problem" ]; then
        (
            umask 077
            mkdir -p -- "$1" || exit
            cd -- "$1" || exit
            for name; do
                case $name in /*) ;; */) mkdir -p -- "$name" || exit ;; esac
            done
        ) || return
        own_problem=$(look_own_folder "$@") # somebody else may have been faster
    fi
    [ -z "$own_problem" ] || echo "$own_problem"
}

# way_problem FOLDER: every part of its path, and of those that links on it lead to, is root's or ours,
# and nobody else may write to it unless a sticky bit keeps what is in it. Nothing above our home
# folder is looked at: who can replace that can act as us anyway.
way_problem() (
    way=${1%/}
    home=${HOME:-/}
    home=${home%/}
    real_home=$(cd -P -- "$home/" 2> /dev/null && pwd -P)
    set -- "${way:-/}"
    while [ -n "$way" ] && [ "$way" != "$home" ] && [ "$way" != "$real_home" ]; do
        way=${way%/*}
        set -- "$@" "${way:-/}"
    done
    parts=$(LC_ALL=C stat -c '%F:%u:%g:%a:%n' -- "$@" 2>&1) || {
        echo "$parts"
        exit
    }
    me=$(id -u)
    echo "$parts" | while IFS=: read -r kind uid gid mode part; do
        if [ "$uid" != 0 ] && [ "$uid" != "$me" ] && ! is_unmapped "$uid"; then
            echo "$part belongs to $(stat -c %U -- "$part"), who may replace what is in it"
        elif [ "$kind" = "symbolic link" ]; then
            target=$(readlink -- "$part")
            case $target in /*) ;; *) target=${part%/*}/$target ;; esac
            way_problem "$target"
        elif [ $((0$mode & 01000)) -eq 0 ]; then
            writers_problem "$part" "$mode" "$gid"
        fi
    done | head -n 1
)

# part_problem PATH: ours, no link and, if it is a folder, closed to others.
part_problem() {
    IFS=' ' read -r part_uid part_gid part_mode << EOF
$(stat -c '%u %g %a' -- "$1")
EOF
    if [ -L "$1" ]; then
        echo "$1 is a link"
    elif [ "$part_uid" != "$(id -u)" ]; then
        echo "$1 belongs to $(stat -c %U -- "$1")"
    elif [ -d "$1" ]; then
        writers_problem "$1" "$part_mode" "$part_gid"
    fi
}

# writers_problem FOLDER MODE GID: who else may write to it.
writers_problem() {
    if [ $((0$2 & 02)) -ne 0 ]; then
        echo "$1 (mode $2) may be written by everybody"
    elif [ $((0$2 & 020)) -ne 0 ] && ! is_private_group "$3"; then
        echo "$1 (mode $2) may be written by its group $(stat -c %G -- "$1")"
    fi
}

# is_private_group GID: our own group, of our name and with no other member, as many sites have it.
is_private_group() {
    [ "$1" = "$(id -g)" ] && entry=$(getent group "$1") && name=$(id -un) || return 1
    case $entry in "$name":*:*: | "$name":*:*:"$name") ;; *) return 1 ;; esac
}

# is_unmapped UID: in a container, the host's root may be nobody in particular.
is_unmapped() {
    [ "$1" = "$(cat /proc/sys/kernel/overflowuid)" ] || return 1
    read -r inside outside count < /proc/self/uid_map
    [ "$inside $outside $count" != "0 0 4294967295" ]
}
