#!/bin/sh
# The cache of packed environments on the shared file system:
#   KEY/NAME          an archive, whole and never changed
#   KEY/.used         touched whenever somebody asks for it
#   KEY.lock/owner    somebody packs and uploads it; touched while they live
#   .KEY.TOKEN.part   what they have uploaded so far
# The functions of scripts/lock.sh and own_folder.sh are put before this.
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

claim() {
    name=$1 token=$2 expiry_s=$3 force=$4
    problem=$(make_own_folder "$folder") || exit 1
    if [ -n "$problem" ]; then
        echo "$problem" >&2
        exit 1
    fi
    if [ "$force" = no ] && [ -f "$folder/$key/$name" ]; then
        : > "$folder/$key/.used"
        echo ready
        return
    fi
    answer=$(lock_claim "$token" "$expiry_s") || exit 1
    if [ "$answer" = seized ]; then
        rm -f "$folder/.$key."*.part
        answer=claimed
    fi
    echo "$answer"
}

renew() { lock_renew "$1"; }

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
    lock_release "$1"
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
