# More bytes than the RAM has: in a variable, in the processes of a pipeline, on the disk. ROWS says how many.
seq 1 "$ROWS" | awk '{ a[NR] = sprintf("%400d", $1) } END { s = 0; for (i = 1; i <= NR; i++) s += a[i] + length(a[i]); print NR, s }'
seq 1 "$ROWS" | sort -r | tail -n 1
big=$(seq 1 "$ROWS"); echo ${#big}; echo "$big" | md5sum
for n in 1 2 3; do (seq $n 3 $((2 * ROWS)) | sort -rn | md5sum > "sorted.$n") & done; wait; cat sorted.1 sorted.2 sorted.3
dd if=/dev/zero bs=1k count=$((ROWS / 2)) 2>/dev/null | tr '\0' 'e' | tee whole | md5sum
md5sum whole; dd if=whole bs=1M skip=20 count=1 2>/dev/null | md5sum; rm whole
