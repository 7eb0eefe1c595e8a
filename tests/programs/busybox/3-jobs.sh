# Background jobs, waiting, signals between processes, pipes that break. Who ends by a signal may be named, or not, by who waits: that
# depends on which of them is first.
for n in 3 1 2; do (seq 1 $((n * 1000)) | md5sum > "sum.$n") & done
wait; cat sum.1 sum.2 sum.3
(exit 7) & wait $!; echo "status $?"
sleep 600 & victim=$!; kill $victim; wait $victim 2>/dev/null; echo "status $?"
sleep 600 & sleep 600 & kill %1 %2; wait 2>/dev/null; echo "both are gone"
(trap 'echo "told"; exit 5' TERM; : > ready; while :; do sleep 0.01; done) &
until [ -e ready ]; do sleep 0.01; done; kill -0 $! && kill $!; wait $!; echo "status $?"
sh -c 'kill -STOP $$; echo "went on"' & stopped=$!
until grep -q '^State:.T' /proc/$stopped/status; do sleep 0.01; done; kill -CONT $stopped; wait $stopped; echo "status $?"
yes | head -n 3; yes "a long line of text" | head -n 10000 | wc -c
mkdir spool; for n in 1 2 3 4; do (for i in $(seq 1 25); do echo $n > spool/$n.$i; done) & done; wait; ls spool | wc -l; cat spool/* | sort | uniq -c | awk '{ print $1, $2 }'
timeout 1 sleep 600; echo "status $?"
timeout -s KILL 1 sh -c 'trap "" TERM; while :; do :; done'; echo "status $?"
[ "$(sh -c 'echo $PPID; :')" != "$(sh -c 'echo $$; :')" ] && echo "parents have numbers of their own"
setsid sh -c 'echo "a session of its own"'
nohup echo "no hangup" 2>/dev/null | cat
time -p true 2>&1 | awk '{ print $1 }'
jobs; (sleep 0.05 & wait; echo "inner done"); echo end
