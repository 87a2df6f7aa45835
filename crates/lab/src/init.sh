# Process 1 of a lab's namespaces. Called as:  sh -c '<this>' lab-init ROOT
#
# Only the owner has the other end of standard input: end of file means that the
# owner has ended, however it did. The line `stay` means that the lab outlives
# its owner, until a writer has opened and closed the named pipe ROOT/end.
# Standard error is no log: it is the lock on the lab's ports.
#
# The shell waits in `grep` and not in `read`. While it waits for a
# command it collects every orphaned process, and it must: PostgreSQL takes a
# zombie for a running postmaster.

# /proc is still the machine's, so this is the process id outside.
read -r pid _ </proc/self/stat
echo "$pid"
exec >/dev/null
if grep -qx stay; then grep -q . "$1/end"; fi

# The kernel would do this, but the folder can be removed only afterwards.
kill -s KILL -- -1
# Again, because processes that are still ending may write to it.
until rm -rf -- "$1"; do sleep 0.05; done
