#!/bin/sh
# The cache of packed environments on the shared file system:
#   KEY/NAME          an archive, whole and never changed
#   KEY/.used         touched whenever somebody asks for it
#   KEY.lock/owner    somebody packs and uploads it; touched while they live
#   .KEY.TOKEN.part   what they have uploaded so far
# The lock saves work. That nobody ever sees half an archive is due to the renaming, so the moment
# in which two might hold the lock after one expired does no harm.
#
# usage: cache.sh FOLDER claim KEY NAME TOKEN EXPIRY_S FORCE  -> ready | claimed | busy SECONDS
#        cache.sh FOLDER renew KEY TOKEN                      -> renewed | lost
#        cache.sh FOLDER publish KEY NAME TOKEN BYTES         -> published | cut BYTES
#        cache.sh FOLDER release KEY TOKEN
#        cache.sh FOLDER collect DAYS                         -> removed KEY...
set -u
umask 077
folder=$1
action=$2
key=$3
shift 3

# Seconds since a file was touched. Both times come from the file system's own clock.
age() {
    clock=$folder/.clock.$$
    : > "$clock" && now=$(stat -c %Y "$clock")
    rm -f "$clock"
    touched=$(stat -c %Y "$1" 2> /dev/null) || return 1
    echo $((now - touched))
}

owns() { [ "$(cat "$folder/$key.lock/owner" 2> /dev/null)" = "$1" ]; }

take() {
    mkdir "$folder/$key.lock" 2> /dev/null || return 1
    echo "$1" > "$folder/$key.lock/owner"
}

claim() {
    name=$1 token=$2 expiry_s=$3 force=$4
    mkdir -p "$folder" || exit 1
    if [ "$force" = no ] && [ -f "$folder/$key/$name" ]; then
        : > "$folder/$key/.used"
        echo ready
    elif take "$token"; then
        echo claimed
    else
        # Between mkdir and the owner's file there is only the folder.
        seconds=$(age "$folder/$key.lock/owner" || age "$folder/$key.lock" || echo 0)
        if [ "$seconds" -gt "$expiry_s" ]; then
            mv "$folder/$key.lock" "$folder/.stale.$token" 2> /dev/null &&
                rm -rf "$folder/.stale.$token" "$folder/.$key."*.part &&
                take "$token" && echo claimed && return
        fi
        echo "busy $seconds"
    fi
}

renew() {
    if owns "$1"; then : >> "$folder/$key.lock/owner" && touch "$folder/$key.lock/owner" && echo renewed
    else echo lost; fi
}

publish() {
    name=$1 token=$2 bytes=$3
    part=$folder/.$key.$token.part
    found=$(stat -c %s "$part") || exit 1
    if [ "$found" != "$bytes" ]; then
        echo "cut $found"
        return
    fi
    mkdir -p "$folder/$key" && : > "$folder/$key/.used" && mv -f "$part" "$folder/$key/$name" || exit 1
    release "$token"
    echo published
}

release() {
    rm -f "$folder/.$key.$1.part"
    if owns "$1"; then rm -rf "$folder/$key.lock"; fi
}

collect() {
    minutes=$((key * 1440)) # its argument stands where the others have the key
    find "$folder" -mindepth 1 -maxdepth 1 -name '.*.part' -mmin +1440 -delete
    for entry in "$folder"/*; do
        [ -n "$(find "$entry/.used" -mmin "+$minutes" 2> /dev/null)" ] || continue
        gone=$folder/.gone.$$
        mv "$entry" "$gone" || continue
        if [ -n "$(find "$gone/.used" -mmin "-$minutes")" ]; then
            mv "$gone" "$entry" # somebody asked for it just now
        else
            rm -rf "$gone"
            echo "removed ${entry##*/}"
        fi
    done
}

"$action" "$@"
