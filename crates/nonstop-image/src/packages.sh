# Stage "packages": the recipe's packages as a tar, root-owned, sorted, with one time.
# In: SUITE MIRROR SECURITY PACKAGES (comma-separated) INSTALL EXCLUDE (lines of dpkg options)
#     ARCHIVES (kept packages) APT_OPTIONS (lines) TAR (result) LIST (result) SOURCE_DATE_EPOCH
umask 022
mkdir -p "$ARCHIVES/partial"
# mmdebstrap's tree and what package scripts leave: on a disk of memory where there is room.
if [ "$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)" -gt 5000 ]; then
    mount -t tmpfs -o mode=0700,size=4000m nonstop-image "$TMPDIR"
fi
# `_apt` must get through to the packages.
chmod 0755 "$TMPDIR"

set -- --mode=root --architectures=amd64 --format=tar --verbose
case $INSTALL in
full) set -- "$@" --variant=minbase ;;
unpack) set -- "$@" --variant=extract ;;
esac
set -- "$@" --aptopt='APT::Install-Recommends "0"' --aptopt='Acquire::Languages "none"' \
    --aptopt='APT::Sandbox::User "root"' --aptopt='Acquire::Retries "3"'
IFS='
'
for option in $APT_OPTIONS; do set -- "$@" --aptopt="$option"; done
for option in $DPKG_OPTIONS; do set -- "$@" --dpkgopt="$option"; done
unset IFS

# Packages come from and go to our cache, so that an interrupted build fetches nothing twice.
release='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get autoclean || true
    umount "$1/var/cache/apt/archives"'
set -- "$@" --skip=download/empty --skip=essential/unlink \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"
        mount --bind "$ARCHIVES" "$1/var/cache/apt/archives"'
if [ "$INSTALL" = full ]; then
    # The image brings an initrd of its own; making Debian's takes longer than all else here.
    set -- "$@" --essential-hook='mkdir -p "$1/usr/sbin"
        chroot "$1" dpkg-divert --local --rename --add /usr/sbin/update-initramfs
        ln -s /bin/true "$1/usr/sbin/update-initramfs"' \
        --customize-hook='rm "$1/usr/sbin/update-initramfs"
        chroot "$1" dpkg-divert --local --rename --remove /usr/sbin/update-initramfs' \
        --customize-hook='chroot "$1" dpkg-query -W -f "\${Package} \${Version}\n" >"$LIST"' \
        --customize-hook="$release"
else
    # Nothing is installed, so the list is of what apt would install into an empty system. No
    # later hook runs for this variant.
    set -- "$@" --extract-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -s \
        --no-install-recommends install $(echo "$PACKAGES" | tr , " ") |
        sed -n "s/^Inst \([^ ]*\) (\([^ ]*\) .*/\1 \2/p" >"$LIST"' \
        --extract-hook="$release"
fi
mmdebstrap "$@" --include="$PACKAGES" "$SUITE" "$TAR.part" \
    "deb $MIRROR $SUITE main" "deb $MIRROR $SUITE-updates main" \
    "deb $SECURITY $SUITE-security main"
[ -s "$LIST" ]
sync "$TAR.part"
mv "$TAR.part" "$TAR"
