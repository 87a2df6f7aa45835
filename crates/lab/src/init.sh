# Process 1 of a lab's namespaces. Called as:  sh -c '<this>' lab-init ROOT
#
# Its standard input is a pipe whose other end only the owner holds: end of file
# means that the owner is gone, by whatever death. The line `stay` means that the
# lab is to outlive its owner; then only SIGKILL ends it.
#
# It waits in commands of its own, not in `read`: a shell that waits for a command
# collects every process that was orphaned in here, and PostgreSQL takes a zombie
# for a running postmaster.

# /proc is the machine's, so this is the process id that the owner knows it by.
read -r pid _ </proc/self/stat
echo "$pid"
exec >&-
if grep -qx stay; then sleep infinity; fi

kill -s KILL -- -1
# The dying may still write.
until rm -rf -- "$1"; do sleep 0.05; done
