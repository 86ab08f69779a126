# Stage "firmware": partitions, of which the first holds what UEFI firmware starts: systemd-boot
# (of the image's package systemd-boot-efi), the kernel and the initrd; the second the file system.
# In: TAR KERNEL INITRD CMDLINE ROOT (file system) ESP (made here) RAW (result) DISK_MIB UUID
#     SOURCE_DATE_EPOCH
umask 022
echo "@ make the firmware's partition"
loader=usr/lib/systemd/boot/efi/systemd-bootx64.efi
tar --extract --file="$TAR" --to-stdout "./$loader" >"$ESP.loader" || {
    echo "the packages hold no /$loader: add systemd-boot-efi"
    exit 1
}
truncate -s 64M "$ESP"
# By --invariant and SOURCE_DATE_EPOCH neither the time nor chance is in it.
mkfs.vfat --invariant -F 32 -s 1 -n NONSTOP -i "$(echo "$UUID" | cut -c 1-8)" "$ESP"
printf 'timeout 0\ndefault nonstop.conf\n' >"$ESP.conf"
printf 'title NONSTOP\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$CMDLINE" >"$ESP.entry"
mmd -i "$ESP" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$ESP" "$ESP.loader" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$ESP" "$KERNEL" ::/vmlinuz
mcopy -i "$ESP" "$INITRD" ::/initrd
mcopy -i "$ESP" "$ESP.conf" ::/loader/loader.conf
mcopy -i "$ESP" "$ESP.entry" ::/loader/entries/nonstop.conf
echo "@ join partitions to a disk"
truncate -s "${DISK_MIB}M" "$RAW"
sfdisk --quiet --no-reread --no-tell-kernel "$RAW" <<TABLE
label: gpt
label-id: $UUID
first-lba: 2048
start=2048, size=131072, type=uefi, uuid=${UUID%?}1, name=firmware
start=133120, type=linux, uuid=${UUID%?}2, name=system
TABLE
dd if="$ESP" of="$RAW" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$ROOT" of="$RAW" bs=1M seek=65 conv=notrunc,sparse status=none
