#!/bin/bash
# Run a command on a node and note in a file that it started, and then how it ended: srun's exit code
# is no evidence, as it is 0 where the host fails (seen with 22.05).
# usage: command.sh FILE COMMAND
record=$1
# In place, so that a folder that became full meanwhile still takes the end.
note() { (umask 077 && printf '%-15s\n' "$1" 1<> "$record") 2> /dev/null; }
noted='' asked='' signalled=''
note started && noted=yes
# In the background, as bash would put a signal off until a command in the foreground has ended. There
# it starts with interrupts ignored, which setting and removing a trap undoes.
(trap : INT QUIT && trap - INT QUIT && exec bash -c "$2") <&0 &
pid=$!
# The command decides what a signal means. Under proctrack/cgroup Slurm sends signals to a step's first
# process only, so they are passed on; what a terminal sends reaches the command by itself.
# shellcheck disable=SC2317 # only the traps call it
pass_on() {
    signalled=yes
    if [ "$1" = HUP ] || { [ -n "$SLURM_STEP_ID" ] && { [ "$1" = TERM ] || [ ! -t 0 ]; }; }; then
        kill "-$1" "$pid" 2> /dev/null
    fi
}
trap 'asked=TERM; pass_on TERM' TERM
trap 'asked=HUP; pass_on HUP' HUP
if [ -t 0 ]; then
    trap '' INT # a trap here could make bash 5.2 lose the command's exit code (`wait` answers -1)
else
    trap 'pass_on INT' INT
fi
while
    signalled=''
    wait "$pid" 2> /dev/null # bash itself would say there that it was killed
    code=$?
    [ "$signalled" ] # it was a signal that ended the wait
do :; done
# A note that is gone has been read: nobody waits for the end any more.
if [ ! "$noted" ] || [ -e "$record" ]; then
    note "ended $code $asked"
fi
exit "$code"
