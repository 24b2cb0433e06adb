#!/bin/sh
# shellcheck disable=SC2154 # folder and key are set by the script that this is put before
# Functions for a lock on a shared file system whose holders may be killed: the folder
# $folder/$key.lock with a file `owner`, which the holder touches for as long as it lives.
# Making a folder is atomic on NFS, too. Times come from the file system's own clock alone.

# Seconds since a file was touched.
lock_age() {
    clock=$folder/.clock.$$
    : > "$clock" && now=$(stat -c %Y "$clock")
    rm -f "$clock"
    touched=$(stat -c %Y "$1" 2> /dev/null) || return 1
    echo $((now - touched))
}

lock_is_ours() { [ "$(cat "$folder/$key.lock/owner" 2> /dev/null)" = "$1" ]; }

lock_take() {
    mkdir "$folder/$key.lock" 2> /dev/null || return 1
    echo "$1" > "$folder/$key.lock/owner" && return
    [ -e "$folder/$key.lock" ] || return 1 # seized in between
    rm -rf "$folder/$key.lock"
    exit 1
}

# lock_claim TOKEN EXPIRY_S -> claimed | seized (from a holder that is gone) | busy SECONDS
lock_claim() {
    mkdir -p "$folder" || exit 1
    if lock_take "$1"; then
        echo claimed
        return
    fi
    if [ ! -e "$folder/$key.lock" ]; then
        # It was released just now, or nobody can make one: then this says why.
        mkdir "$folder/.try.$1" && rmdir "$folder/.try.$1" || exit 1
    fi
    # Between mkdir and the owner's file there is only the folder.
    seconds=$(lock_age "$folder/$key.lock/owner" || lock_age "$folder/$key.lock" || echo 0)
    if [ "$seconds" -gt "$2" ]; then
        stale=$folder/.stale.$1
        if mv "$folder/$key.lock" "$stale" 2> /dev/null; then
            # Another one may have seized it just before: then this is the new holder's.
            if [ "$(lock_age "$stale/owner" || lock_age "$stale")" -gt "$2" ]; then
                rm -rf "$stale"
                lock_take "$1" && echo seized && return
            else
                mv -T "$stale" "$folder/$key.lock" 2> /dev/null || rm -rf "$stale"
            fi
        fi
    fi
    echo "busy $seconds"
}

# lock_renew TOKEN -> renewed | lost
lock_renew() {
    if lock_is_ours "$1"; then touch "$folder/$key.lock/owner" && echo renewed; else echo lost; fi
}

lock_release() {
    if lock_is_ours "$1"; then rm -rf "$folder/$key.lock"; fi
}
