#!/bin/bash
# Becomes systemd, PID 1 of the namespaces that it was started in, over a throw-away copy of this machine's root.
#
# systemd_box.py starts it:  unshare --fork --kill-child --pid --mount --uts --ipc --cgroup systemd-box.sh DIRECTORY
#
# Root is an overlay of /: units, users and packages that are installed inside never reach the machine. The network is the
# machine's own, so that servers on 127.0.0.1 are reachable. DIRECTORY/share is /share inside.
set -euo pipefail
directory=$1

mount --make-rprivate /
mkdir -p "$directory/box" "$directory/share"
mount -t tmpfs tmpfs "$directory/box"
mkdir "$directory"/box/{upper,work,root}
root=$directory/box/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/box/upper,workdir=$directory/box/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/run/lock" "$root/share"
mount --bind "$directory/share" "$root/share"

# Control groups as the machine has them: unified, or the hybrid of old, where systemd gets a hierarchy of its own.
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root"/sys/fs/cgroup/{systemd,unified}
    mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
fi

# Nothing is started but the journal, the bus and what a test installs; nothing reaches for the machine's settings.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/var/log/journal
for unit in systemd-{sysctl,binfmt,modules-load,udevd,udev-trigger,timesyncd,update-utmp,remount-fs,logind}.service \
    proc-sys-fs-binfmt_misc.{automount,mount} dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount epmd.socket console-getty.service \
    systemd-journald-audit.socket systemd-udevd-{control,kernel}.socket; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/usr/sbin/policy-rc.d"
# A new id; without any, systemd would take this for the first boot and enable everything.
systemd-id128 new >"$root/etc/machine-id"

cd "$root"
mkdir .old
pivot_root . .old
umount -l .old
rmdir .old
mount --make-rshared / # or credentials would be set up where the service does not see them
exec env -i container=lxc PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
