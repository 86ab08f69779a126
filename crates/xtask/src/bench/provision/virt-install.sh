#!/bin/sh
# virt-install over an overlay, on a network that is there. Called with a folder that holds
# `machine` (DISK, BASE, TYPE, MEMORY, VCPUS, KERNEL, INITRD, CMDLINE, MAC).
set -e
. "$1/machine"
qemu-img create -q -f qcow2 -F qcow2 -b "$BASE" "$DISK"
exec virt-install --connect qemu:///system --name bench --virt-type "$TYPE" \
    --memory "$MEMORY" --vcpus "$VCPUS" --osinfo linux2020 --import \
    --disk "path=$DISK,format=qcow2,bus=virtio" \
    --network "network=default,model=virtio,mac=$MAC" \
    --boot "kernel=$KERNEL,initrd=$INITRD,kernel_args=$CMDLINE" \
    --graphics none --noautoconsole --transient
