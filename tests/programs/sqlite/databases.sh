# A database larger than memory, in each way that SQLite has of writing one, then several processes at once.
# $1 is where to work, ROWS how many rows of some 4 KiB there are, SQLITE the program.
cd "$1" || exit 1

echo "== a journal to roll back with"
$SQLITE base <<END
PRAGMA journal_mode = delete; PRAGMA cache_size = -2000; PRAGMA mmap_size = 0;
CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
BEGIN;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $ROWS)
    INSERT INTO t SELECT i, (i * 7919) % 2003, printf('%04000d', i * 31) FROM n;
COMMIT;
CREATE INDEX by_k ON t (k);
SELECT count(*), sum(k), sum(v % 1000003), sum(length(v)) FROM t;
BEGIN; UPDATE t SET k = -1, v = printf('%04000d', id) WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0; ROLLBACK;
SELECT count(*), sum(k), sum(v % 1000003) FROM t;
UPDATE t SET k = k + 1, v = printf('%04000d', id * 17) WHERE id % 7 = 0;
SELECT count(*), sum(k), sum(v % 1000003) FROM t;
PRAGMA integrity_check;
END

echo "== a log written ahead, and the database mapped"
$SQLITE base <<END
PRAGMA journal_mode = wal; PRAGMA cache_size = -2000; PRAGMA mmap_size = 1073741824;
UPDATE t SET k = k + 1, v = printf('%04000d', id * 13) WHERE id % 4 = 0;
SELECT count(*), sum(k), sum(v % 1000003) FROM t;
BEGIN; DELETE FROM t WHERE id % 2 = 0; ROLLBACK;
DELETE FROM t WHERE id % 11 = 0;
SELECT k, count(*), min(id), sum(v % 1000003) FROM t GROUP BY k ORDER BY 2 DESC, 1 LIMIT 5;
PRAGMA integrity_check;
PRAGMA wal_checkpoint(truncate);
SELECT count(*), sum(k), sum(v % 1000003) FROM t;
END

for mode in wal delete; do
    echo "== three processes at once, $mode"
    $SQLITE shared "PRAGMA journal_mode = $mode; CREATE TABLE IF NOT EXISTS c (who INTEGER, n INTEGER, v TEXT);"
    for who in 1 2 3; do
        n=0
        while [ $n -lt 25 ]; do
            n=$((n + 1))
            echo "BEGIN IMMEDIATE; INSERT INTO c SELECT $who, 1 + count(*), printf('%0800d', count(*)) FROM c; COMMIT;"
        done | $SQLITE -cmd ".timeout 100000" -cmd "PRAGMA mmap_size = 1073741824" shared > "said.$who" 2>&1 &
    done
    wait
    cat said.1 said.2 said.3
    $SQLITE shared "SELECT count(*), count(DISTINCT n), max(n), sum(length(v)) FROM c; PRAGMA integrity_check;"
done
echo "== end"
