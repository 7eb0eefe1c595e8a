# Trees of files: made, copied, moved, searched, packed.
dd if=/dev/zero of=zeroes bs=64k count=24 2>/dev/null; md5sum zeroes; wc -c zeroes
seq 1 60000 > numbers; dd if=numbers of=numbers bs=4096 skip=3 seek=50 count=20 conv=notrunc 2>&1; md5sum numbers
dd if=numbers bs=1000 count=5 skip=2 2>/dev/null | md5sum
mkdir -p tree/a/b/c tree/d; for n in $(seq 1 60); do echo "file $n" > "tree/a/$n"; [ $((n % 5)) -gt 0 ] || cp numbers "tree/a/b/c/big.$((n % 3))"; done
cp -r tree copy; cp -a tree archive; find copy -type f | wc -l
find tree -type f | sort | xargs cat | md5sum; find copy -type f | sort | xargs cat | md5sum
find tree -name 'big.*' -size +100k | sort; find tree -type d | sort; find tree -type f -name '1?' -exec cat {} + | sort
mv copy moved; mv moved/a/1 moved/d/one; test ! -e copy && cat moved/d/one
ln -s ../tree/a moved/link; readlink moved/link; cat moved/link/2; ln numbers again; stat -c '%h %s %F %a' numbers moved/link; stat -c '%h %F' moved
chmod 640 again; ls -l numbers | cut -c 1-10; truncate -s 100 again; wc -c numbers; touch -d '2001-02-03 04:05:06' again; date -u -r again
tar -cf packed.tar tree; mkdir out; tar -xf packed.tar -C out; diff -r tree out/tree && echo "the same"
gzip -c numbers > numbers.gz; gunzip -c numbers.gz | cmp - numbers && echo "compressed and back"
bzip2 -c tree/a/b/c/big.1 | bunzip2 -c | cmp - tree/a/b/c/big.1 && echo "and again"
sed -i 's/file/piece/' tree/a/9; cat tree/a/9
mkdir full; echo x > full/x; rmdir full 2>&1; rm -r full; ls full 2>&1
exec 5>opened 6<opened 7<tree; d=/proc/self/fd; stat -c '%A %F' $d/5 $d/6; mv opened renamed; echo "what is in it" >&5
[ "$(readlink $d/5)" = "$PWD/renamed" ] && echo "its new name"; rm renamed
[ "$(readlink $d/6)" = "$PWD/renamed (deleted)" ] && echo "no name"; cat $d/6
echo x > there; exec 8<there; mv there tree/d/moved; [ "$(readlink $d/8)" = "$PWD/tree/d/moved" ] && echo "moved"; rm tree/d/moved; exec 8<&-
[ "$(readlink $d/7)" = "$PWD/tree" ] && ls $d/7 | sort; cat $d/7/a/2; cd $d/7/d && pwd -P | sed 's:.*/tree:tree:'; cd "$OLDPWD"
true | readlink $d/0 | sed 's/[0-9][0-9]*/N/'; exec 5>&- 6<&- 7<&-; ls $d/5 2>&1; ls $d/05 2>&1
cd tree/a/b && pwd | sed 's:.*/tree:tree:'; cd ../../..; rm -r tree; find . -maxdepth 1 | sort
df . | wc -l; sync; rm -rf archive moved out; ls
