#!/bin/bash
# Linux's lp and ppdev, and parscan.sys, side by side on QEMU's parallel port, a chip and a printer
# that none of them wrote: how many port accesses each byte costs, counted by QEMU's own trace.
#
#   tests/parscan-tests/side-by-side/run.sh [FOLDER]
#
# Needs Debian with gcc, cpio, qemu-system-x86 and an apt that knows linux-image-amd64: the kernel
# comes from that package, which is unpacked and not installed. FOLDER keeps it (default:
# target/side-by-side). QEMU runs without KVM. parscan.sys is built first; it runs in ntsim, whose
# port accesses go to QEMU's port.
#
# QEMU's port has no IEEE 1284 peripheral and no FIFO, so this compares Centronics alone. No part of
# `cargo xtask test`: it downloads 70 MB.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=${1:-$root/target/side-by-side}
bytes=65536
mkdir -p "$work"
cd "$work"

if ! ls linux-image-*.deb >/dev/null 2>&1; then
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    echo "downloading $package" >&2
    apt-get download "$package" >&2
fi
rm -rf kernel tree
dpkg-deb -x linux-image-*.deb kernel
version=$(basename kernel/lib/modules/*)

mkdir -p tree/dev
gcc -O2 -static -o tree/init "$here/init.c"
for module in parport parport_pc lp ppdev; do
    found=$(find "kernel/lib/modules/$version" -name "$module.ko*")
    case $found in
    *.xz) xz -dc "$found" >"tree/$module.ko" ;;
    *) cp "$found" "tree/$module.ko" ;;
    esac
done
(cd tree && find . | cpio --quiet -o -H newc) >initramfs

rm -f trace printed console
timeout 900 qemu-system-x86_64 -machine pc -accel tcg -m 256 -nodefaults -no-user-config -no-reboot \
    -display none -serial file:console \
    -kernel "kernel/boot/vmlinuz-$version" -initrd initramfs -append 'console=ttyS0 quiet panic=-1' \
    -chardev file,id=printer,path=printed -device isa-parallel,chardev=printer,iobase=0x378 \
    -trace 'enable=parallel_ioport_*' -D trace
if ! grep -q 'side-by-side: done' console; then
    echo "the guest failed:" >&2
    tail -n 20 console >&2
    exit 1
fi
if [ "$(stat -c %s printed)" != $((2 * bytes)) ]; then
    echo "$(stat -c %s printed) bytes were printed, $((2 * bytes)) expected" >&2
    exit 1
fi

# Accesses between two marks.
between() {
    awk -v from="addr 0x07 val 0x0$1" -v to="addr 0x07 val 0x0$2" '
        /parallel_ioport_write/ && index($0, from) { on = 1; next }
        /parallel_ioport_write/ && index($0, to) { exit }
        /parallel_ioport_/ { count += on }
        END { print count + 0 }' trace
}
lp=$(between 1 2)
ppdev=$(between 3 4)

cd "$root"
sys=$(cargo xtask build | tail -n 1)
parscan=$(PARSCAN_SYS=$sys cargo run -q --locked -p parscan-tests --example side_by_side -- $bytes | tail -n 1)

row() {
    awk -v name="$1" -v count="$2" -v bytes=$bytes \
        'BEGIN { printf "| %s | %d | %.4f |\n", name, count, count / bytes }'
}
echo "| $bytes bytes by Centronics | accesses | a byte |"
echo "|---|---|---|"
row "Linux $version, lp" "$lp"
row "Linux $version, ppdev" "$ppdev"
row "parscan" "$parscan"
