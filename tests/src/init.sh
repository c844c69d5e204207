# The lab's first process. It runs in fresh namespaces already; here it makes them a host.
# Given: LAB_CGROUPS, one line "mount point|type|options|directory of the lab" per hierarchy.
# Says "ready" when done and then reaps what is left to it until it is killed.
set -e
mount --make-rprivate /
# The machine's own files can be read but not changed, but for the lab's directory.
mount --bind "$LAB_DIRECTORY" "$LAB_DIRECTORY"
mount -o remount,bind,ro /
printf '%s\n' "$LAB_CGROUPS" | while IFS='|' read -r point type options directory; do
    # Not 0: that would be this loop, which is a process of its own behind the pipe.
    echo $$ > "$directory/cgroup.procs"
done
# The parent-death signal comes from outside of this process id namespace: it kills even process 1.
exec unshare --cgroup setpriv --pdeathsig KILL sh -c '
set -e
hostname lab
mount -t proc -o nosuid,nodev,noexec proc /proc
umount -R -l /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
first=yes
printf "%s\n" "$LAB_CGROUPS" | while IFS="|" read -r point type options directory; do
    if [ "$first" = yes ] && [ "$point" != /sys/fs/cgroup ]; then
        mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    fi
    first=no
    mkdir -p "$point"
    mount -t "$type" -o "$options" cgroup "$point"
    # Only version 2 alone has this leaf: there the top may not hold processes and pass controllers down.
    if [ -d "$point/host" ]; then
        echo $$ > "$point/host/cgroup.procs"
        for controller in $(cat "$point/cgroup.controllers"); do
            echo "+$controller" > "$point/cgroup.subtree_control" || :
        done
    fi
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 lib /var/lib
mount -t tmpfs -o mode=1777 tmp /var/tmp
mkdir /run/lock /run/netns
ip link set lo up
echo ready
exec < /dev/null > /dev/null 2>&1
# Not a child but a pause: "wait" also collects the orphans that are handed to this process.
while :; do sleep 1000000 & wait || :; done
'
