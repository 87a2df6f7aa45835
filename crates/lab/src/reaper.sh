# Ends everything of one lab. Called as:  sh -c '<this>' reaper ID ROOT wait|now
#
# With `wait` it sits on its standard input, whose other end only the owner
# holds: end of file means that the owner is gone, by whatever death. The word
# `stay` means that the lab is to outlive its owner.
# It runs in a session of its own, so what is sent to the owner's group or
# terminal does not reach it.
trap '' HUP INT QUIT TERM PIPE
id=$1 root=$2
case $root in */citus-sync-lab-*) ;; *) exit 2 ;; esac
if [ "$3" = wait ] && read -r word && [ "$word" = stay ]; then exit 0; fi

# A process belongs to the lab when it works inside its folder, or carries its
# mark. Neither alone would do: PostgreSQL's backends overwrite their
# environment with the process title, and a daemon under test works elsewhere.
pids() {
  {
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$root*"
    grep -lzxF "LAB_ID=$id" /proc/[0-9]*/environ
  } 2>/dev/null | cut -d/ -f3 | sort -u
}

# Again and again, for a supervisor may have started another meanwhile. The
# bound is for a process stuck in the kernel: one minute, then leave it.
tries=0
while found=$(pids); [ -n "$found" ] && [ $tries -lt 1200 ]; do
  kill -KILL $found 2>/dev/null
  tries=$((tries + 1))
  sleep 0.05
done

# PostgreSQL's small System V segment outlives a SIGKILL; its id is the second
# number in line 7 of postmaster.pid.
find "$root" -name postmaster.pid 2>/dev/null | while read -r file; do
  sed -n 7p "$file" | while read -r _ segment; do
    ipcrm -m "$segment" 2>/dev/null
  done
done

rm -rf -- "$root"
