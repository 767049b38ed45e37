# Runs in a Debian that systemd has booted, and says what it sees in lines "NAME: VALUE"; then the system is powered off.
# What is mounted stays so: the shutdown has to bring every write to the images.
exec > /share/said 2> /share/errors
say() { echo "$1: $2"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }

# An earlier job, which this one waits for: nofail lets the boot go on without.
systemctl start mnt-fstab.mount
# Nobody but the boot starts this one: systemd deletes a job that makes an ordering cycle.
until systemctl is-active -q mnt-inner.mount || [ -z "$(systemctl show -P Job mnt-inner.mount)" ]; do sleep 0.1; done
say inner "$(findmnt -n -o FSTYPE /mnt/inner)"
say units "$(systemctl is-active qcow2fs@plain qcow2fs@luks mnt-fstab.mount | tr '\n' ' ')"
say status "$(systemctl show -P StatusText qcow2fs@luks)"
say luks "$(digest /mnt/luks/disk.raw)"
say verify "$(systemd-analyze verify /usr/lib/systemd/system/qcow2fs@.service 2>&1 | grep -v 'Command .man')"
say security "$(systemd-analyze security --no-pager qcow2fs@plain | sed -n 's/.*Overall exposure level[^:]*: //p')"

for disk in plain fstab; do dd if=/share/data of=/mnt/$disk/disk.raw bs=64k conv=notrunc status=none; done

# A daemon that dies is started anew, on a mountpoint that is free again.
kill -KILL "$(systemctl show -P MainPID qcow2fs@luks)"
until [ "$(systemctl show -P NRestarts qcow2fs@luks)" = 1 ] && systemctl is-active -q qcow2fs@luks; do sleep 0.1; done
say again "$(digest /mnt/luks/disk.raw)"
systemctl stop qcow2fs@luks
say stopped "$(systemctl is-active qcow2fs@luks) $(findmnt -n /mnt/luks)"

# Whoever uses a disk that is stopped has some seconds; that is no failure.
systemctl start qcow2fs@luks
exec 9< /mnt/luks/disk.raw
systemctl stop qcow2fs@luks
say busy "$(systemctl is-active qcow2fs@luks) $(systemctl show -P Result qcow2fs@luks)"
exec 9<&-

# A name that EnvironmentFile= does not find.
systemctl start 'qcow2fs@a\x20b'
say odd "$(systemctl show -P AssertResult 'qcow2fs@a\x20b') $(systemctl show -P NRestarts 'qcow2fs@a\x20b')"

# A wrong secret: once, and with the reason.
cp /etc/credstore/qcow2fs.luks /root/secret
printf wrong > /etc/credstore/qcow2fs.luks
systemctl start qcow2fs@luks
say refused "$(systemctl show -P ExecMainStatus qcow2fs@luks) $(systemctl show -P NRestarts qcow2fs@luks)"
say reason "$(journalctl -b --no-pager -o cat -u qcow2fs@luks | grep '^qcow2fs: ' | tail -n 1)"

useradd --create-home joe
mkdir -p /home/joe/.config/qcow2fs /home/joe/disk
cp /srv/example.qcow2 /home/joe
install -m 600 /root/secret /home/joe/secret
printf 'IMAGE=/home/joe/example.qcow2\nMOUNTPOINT=/home/joe/disk\nOPTIONS=ro,secret-file=/home/joe/secret\n' \
  > /home/joe/.config/qcow2fs/mine.conf
chown -R joe: /home/joe
systemctl start "user@$(id -u joe)"
as_joe() { setpriv --reuid=joe --regid=joe --clear-groups env "XDG_RUNTIME_DIR=/run/user/$(id -u joe)" HOME=/home/joe "$@"; }
as_joe systemctl --user start qcow2fs@mine
say user "$(as_joe sha256sum /home/joe/disk/disk.raw | cut -d' ' -f1)"
as_joe systemctl --user stop qcow2fs@mine
say gone "$(findmnt -n /home/joe/disk)"

systemctl poweroff
