#!/bin/bash
# Run a command on a node and note in a file that it started, and then how it ended: srun's exit code
# is no evidence, as it is 0 where the host fails (seen with 22.05).
# usage: command.sh FILE COMMAND
record=$1
# Written in place, so that a folder that became full meanwhile still takes the end.
note() { { printf '%-15s\n' "$1" 1<> "$record"; } 2> /dev/null; }
# The command decides what a signal means. Under proctrack/cgroup Slurm sends signals to a step's first
# process only, so they are passed on; what a terminal sends reaches the command by itself.
asked='' signalled=''
# shellcheck disable=SC2317 # only the traps call it
pass_on() {
    signalled=yes
    [ "$2" = always ] || { [ -n "$SLURM_STEP_ID" ] && { [ "$1" = TERM ] || [ ! -t 0 ]; }; } || return
    kill "-$1" "$pid" 2> /dev/null
}
trap 'asked=TERM; pass_on TERM' TERM
trap 'asked=HUP; pass_on HUP always' HUP
trap 'pass_on INT' INT
(umask 077 && note started)
# In the background, as bash would put a signal off until a command in the foreground has ended. There
# it starts with interrupts ignored, which setting and removing a trap undoes.
(trap : INT QUIT && trap - INT QUIT && exec bash -c "$2") <&0 &
pid=$!
while
    signalled=''
    wait "$pid" 2> /dev/null # bash itself would say there that it was killed
    code=$?
    [ "$signalled" ] # it was a signal that ended the wait
do :; done
note "ended $code $asked"
exit "$code"
