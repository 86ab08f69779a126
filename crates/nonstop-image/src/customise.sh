# Stage "customise": unpack the packages, lay the recipe over them, take the kernel and its
# modules out, and make the file system.
# In: TAR TREE OVERLAY RECIPE INSTALL PROGRAMS BOOT (result) RAW (result) DISK_MIB UUID SOURCE_DATE_EPOCH
umask 022
echo "@ unpack packages"
# Package scripts' leftovers and mounts stay in this namespace; with memory to spare, the tree too.
if [ "$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)" -gt 4000 ]; then
    mount -t tmpfs -o mode=0755,size=3500m nonstop-image "$TREE"
fi
tar --extract --file="$TAR" --directory="$TREE" --numeric-owner --same-permissions \
    --xattrs --xattrs-include='*'
chmod 0755 "$TREE"

if [ "$INSTALL" = full ]; then
    echo "@ customise"
    cp --archive --no-preserve=timestamps --remove-destination "$OVERLAY/." "$TREE/"
    mount -t proc proc "$TREE/proc"
    "$RECIPE/customise" "$TREE"
    umount "$TREE/proc"
fi

echo "@ take out the kernel"
set -- "$TREE"/boot/vmlinuz-*
[ $# = 1 ] && [ -f "$1" ] || { echo "the packages hold no kernel, or more than one: $*"; exit 1; }
version=${1##*/vmlinuz-}
mkdir "$BOOT"
cp "$1" "$BOOT/vmlinuz"
cp -r "$TREE/usr/lib/modules/$version/kernel" "$BOOT/modules"
cp "$TREE/usr/lib/modules/$version/modules.builtin" "$BOOT/"
cp "$TREE/usr/bin/busybox" "$BOOT/busybox"

# Programs with the libraries that their own loader finds for them.
mkdir "$BOOT/programs"
loader=/lib64/ld-linux-x86-64.so.2
for program in $PROGRAMS; do
    echo "@ take out $program"
    listed=$("$TREE/usr$loader" --library-path "$TREE/usr/lib/x86_64-linux-gnu" --list "$TREE$program") ||
        { echo "$program: $listed"; exit 1; }
    mkdir -p "$BOOT/programs/lib64" "$BOOT/programs${program%/*}"
    cp -L "$TREE/usr$loader" "$BOOT/programs$loader"
    cp -L "$TREE$program" "$BOOT/programs$program"
    for file in $(echo "$listed" | grep -o "=> $TREE/usr/lib/[^ ]*" | cut -c4-); do
        mkdir -p "$BOOT/programs/usr/lib/x86_64-linux-gnu"
        cp -L "$file" "$BOOT/programs/usr/lib/x86_64-linux-gnu/"
    done
done

[ "$INSTALL" = full ] || exit 0
echo "@ make the file system"
# What remembers when, where and in which order this was built.
rm -rf "$TREE"/boot/* "$TREE"/vmlinuz* "$TREE"/initrd* "$TREE"/var/cache/apt/* \
    "$TREE"/var/lib/apt/lists/* "$TREE"/var/cache/ldconfig/* "$TREE"/var/cache/debconf/*-old \
    "$TREE"/var/lib/dpkg/*-old "$TREE"/var/lib/dpkg/diversions-old "$TREE"/etc/*- \
    "$TREE"/tmp/* "$TREE"/var/tmp/* "$TREE"/run/* "$TREE"/root/.cache
find "$TREE/var/log" -type f -delete
find "$TREE" -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -m -d "@$SOURCE_DATE_EPOCH" {} +
find "$TREE" -xdev -exec touch -h -a -d "@$SOURCE_DATE_EPOCH" {} +
# mke2fs sorts names with strcoll. The builder writes change times itself, hence no checksums.
rm -f "$RAW"
LC_ALL=C E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -b 4096 -I 256 -N 196608 -m 1 \
    -O ^metadata_csum,^uninit_bg,^orphan_file,^resize_inode -U "$UUID" -L nonstop \
    -J size=32 -E "hash_seed=$UUID,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=1,nodiscard" \
    -d "$TREE" "$RAW" "${DISK_MIB}M"
