#!/bin/sh
# The bare script: what one would write with ours' own XML at hand. Called with a folder that
# holds network.xml, domain.xml and `machine` (DISK, BASE, OWNER).
set -e
. "$1/machine"
mkdir -p "$(dirname "$DISK")"
qemu-img create -q -f qcow2 -F qcow2 -b "$BASE" "$DISK"
chown "$OWNER:$OWNER" "$DISK"
virsh -q "net-create $1/network.xml; create $1/domain.xml"
