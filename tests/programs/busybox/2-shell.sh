# The language: loops, functions, substitution, subshells, here-documents, statuses.
i=0; while [ $i -lt 200 ]; do i=$((i + 1)); done; echo "counted to $i"
for word in one two three; do case $word in t*) echo "$word begins with t" ;; *) echo "$word" ;; esac; done
factorial() { if [ "$1" -le 1 ]; then echo 1; else echo $(($1 * $(factorial $(($1 - 1))))); fi; }
factorial 10
cat <<END | while read -r a b; do echo "$b $a"; done
first second
third $((1 + 3))
END
x=outer; (x=inner; echo "$x"); echo "$x"
set -- a 'b c' d; echo "$# ${2} ${*%d}"; shift 2; echo "$1"
value=some.long.name.txt; echo "${value%.*} ${value##*.} ${#value} ${missing:-default}"
false; echo "status $?"; (exit 42); echo "status $?"; nothing-like-this 2>/dev/null; echo "status $?"
false | true; echo "pipe $?"; ! true; echo "not $?"
for n in 1 2 3 4 5 6 7 8; do [ "$n" = 3 ] && continue; [ "$n" = 6 ] && break; printf '%s ' "$n"; done; echo
until [ -e flag ]; do : > flag; done; ls flag
eval 'echo "$(echo deep $(echo deeper $(echo deepest)))"'
trap 'echo "left by the trap"' EXIT
exec 3> by-number; echo "through three" >&3; exec 3>&-; cat by-number
{ echo to stdout; echo to stderr >&2; } 2>&1 | sort
