# Text through pipes of several programs.
seq 1 2000 | awk '{ print ($1 * 7919) % 2003, "line", $1 }' > lines
sort -n lines | head -n 3
sort -rn lines | sed -n '2p;$p'
sort -k3,3n -o sorted lines && cmp lines sorted && echo "sorted back"
cut -d' ' -f1 lines | sort | uniq | wc -l
grep -c '7 line' lines; grep -E '^(1|2)0 ' lines | tr a-z A-Z
tail -n 2 lines | rev; paste -d: lines sorted | sed 1q
printf '%s\n' b a c a | sort | uniq -c | awk '{ print $2 "=" $1 }' | xargs echo
tr -dc '0-9' < lines | fold -w 60 | md5sum
cat lines lines | tee copy | sha256sum; wc -c < copy
diff lines sorted > difference && echo "no difference"
expr 6 \* 7; echo "2 ^ 64" | bc
nl lines | od -c | tail -n 2; base64 lines | base64 -d | sha1sum
