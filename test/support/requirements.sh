#!/bin/sh
# Sees to the programs that the tests need. Quiet when all are there; otherwise installs their Debian packages
# as root, or prints the command that does.
set -eu

PATH="$PATH:/usr/sbin:/sbin"

# program package; or the file of one, from /. For `make check`, which calls this with the word check:
needed='
qemu-img qemu-utils
qemu-io qemu-utils
qemu-nbd qemu-utils
qemu-storage-daemon qemu-system-common
cc gcc
usr/include/stdlib.h libc6-dev
cryptsetup cryptsetup-bin
script bsdutils
'
# and for `make test`, besides:
[ "${1-}" = check ] || needed="$needed
fio fio
fusermount3 fuse3
mmls sleuthkit
fls sleuthkit
mkfs.ext4 e2fsprogs
mkfs.xfs xfsprogs
mkfs.btrfs btrfs-progs
losetup mount
mount mount
sfdisk fdisk
setpriv util-linux
fstrim util-linux
partx util-linux
fallocate util-linux
mandoc mandoc
bash bash
zsh zsh
fish fish
shellcheck shellcheck
usr/share/bash-completion/bash_completion bash-completion
unshare util-linux
nsenter util-linux
findmnt util-linux
mmdebstrap mmdebstrap
systemd-nspawn systemd-container
usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
"

# The package that brings what is missing, without repetitions; `missing` collects the programs.
find_missing() {
  missing='' packages=''
  while read -r program package; do
    [ -n "$program" ] || continue
    command -v "$program" >/dev/null 2>&1 && continue
    [ ! -f "/$program" ] || continue
    missing="$missing $program"
    case " $packages " in
      *" $package "*) ;;
      *) packages="$packages $package" ;;
    esac
  done <<EOF
$needed
EOF
}

find_missing
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "The tests need:$missing" >&2
  echo "Install them with: sudo apt-get install -y --no-install-recommends$packages" >&2
  exit 1
fi

if ! command -v apt-get >/dev/null 2>&1; then
  echo "The tests need:$missing (Debian packages:$packages)" >&2
  exit 1
fi

echo "Installing$packages for$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
# The list is meant to be split.
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $packages >&2

find_missing
if [ -n "$missing" ]; then
  echo "Still missing after the installation:$missing" >&2
  exit 1
fi
