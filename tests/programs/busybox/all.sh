# Runs the scripts beside it, whose names are the arguments after the directory they are to work in.
scripts=$(pwd)
# No programs but busybox' own.
export PATH=/nowhere
cd "$1" || exit 1
shift
for name in "$@"; do
    echo "== $name"
    mkdir "$name" && cd "$name" || exit 1
    sh "$scripts/$name" 2>&1
    echo "== status $?"
    cd ..
done
