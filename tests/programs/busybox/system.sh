# What differs from machine to machine: shown, and judged by the test.
sleep 600 & other=$!
echo "-- free"; free
echo "-- ps"; ps -o pid,ppid,pgid,stat,vsz,args
echo "-- meminfo"; cat /proc/meminfo
echo "-- uptime"; uptime; cat /proc/uptime /proc/loadavg
echo "-- top"; top -b -n 1
echo "-- ids"; pidof sleep
echo "-- began"; awk -v up="$(cut -d. -f1 /proc/uptime)" '{ print ($22 > 0 && $22 <= (up + 1) * 100) ? "since boot" : $22 }' /proc/$other/stat
echo "-- fd"; ls -l /proc/self/fd
echo "-- mounts"; mount; df -P /
kill $other; wait $other; echo "-- end"
