#!/bin/sh
# Unpacks the box beside this file and runs one of its programs with Node on the GPU of this machine; no network, no root.
#
#   sh run.sh NAME [ARGUMENTS]
#
# Prints the adapter first, and ends with code 3 or 4 where there is none or only a software one. What may be set:
#   GPU_PACK_FALLBACK=1   go on with a software adapter (a dry run: its figures say nothing of a GPU)
#   GPU_PACK_ROOM=/dir    where to unpack, by default /tmp/gpu-pack
#   VK_DRIVER_FILES=/x    the driver's ICD file, where it is not found by itself
set -eu
here=$(cd "$(dirname "$0")" && pwd)
room=${GPU_PACK_ROOM:-/tmp/gpu-pack}
names=$(cd "$here/files" && ls ./*.mjs 2>/dev/null | sed 's|./||; s|.mjs$||' | tr '\n' ' ')
name=${1:?expected the name of a program, one of $names}
shift
[ -e "$here/files/$name.mjs" ] || { echo "run.sh: expected one of $names, got '$name'" >&2; exit 2; }
sum=$(cksum <"$here/box.tar.xz" | tr ' ' -)
if [ "$(cat "$room/sum" 2>/dev/null || :)" != "$sum" ]; then
  mkdir -p "$room"
  if command -v xz >/dev/null 2>&1; then xz -dc "$here/box.tar.xz"; else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$here/box.tar.xz"
  fi | tar -xf - -C "$room"
  echo "$sum" >"$room/sum"
fi
# Beside node_modules, where imports are looked up; nothing of an earlier pack stays.
rm -rf "$room/chunks" "$room/suites"
cp -R "$here"/files/. "$room/"

# Where the driver's libraries are. Those of X11 come last: the system's own, if it has them.
known() { ldconfig -p 2>/dev/null | sed -n "s|.* => \(/.*/$1\)\$|\1|p" | head -n 1; }
path=$room/lib
driver=
for library in libEGL_nvidia.so.0 libGLX_nvidia.so.0; do
  for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib "$(dirname "$(known $library)x")" /usr/lib/x86_64-linux-gnu /usr/lib64; do
    [ -z "$driver" ] && [ -e "$folder/$library" ] || continue
    driver=$folder
    path=$path:$folder
  done
done
for library in "$room"/spare/*; do
  if [ -z "$(known "$(basename "$library")")" ]; then path=$path:$room/spare; break; fi
done
export LD_LIBRARY_PATH="$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# ICD files to try, the best first: the one that was asked for, the driver's own, two of ours (EGL needs no display), and what the
# loader finds by itself.
for kind in EGL GLX; do
  rm -f "$room/$kind.json"
  [ ! -e "$driver/lib${kind}_nvidia.so.0" ] || printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s/lib%s_nvidia.so.0","api_version":"1.3.0"}}\n' "$driver" $kind >"$room/$kind.json"
done
detail=
[ "$name" != probe ] || detail=--all
code=3
for icd in "${VK_DRIVER_FILES:-}" /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /etc/vulkan/icd.d/nvidia_icd*.json /usr/share/vulkan/icd.d/nvidia_icd*.json "$room/EGL.json" "$room/GLX.json" default; do
  if [ "$icd" = default ]; then unset VK_DRIVER_FILES; elif [ -n "$icd" ] && [ -e "$icd" ]; then export VK_DRIVER_FILES="$icd"; else continue; fi
  code=0
  (cd "$room" && bin/node probe.mjs $detail) 2>"$room/probe.err" || code=$?
  if [ $code = 0 ] || [ $code = 4 ]; then echo "by $icd, driver's libraries in ${driver:-no known folder}"; break; fi
  echo "no adapter by $icd (code $code): $(head -n 2 "$room/probe.err" | tr '\n' ' ')"
done
case $code in
  0) ;;
  4) [ "${GPU_PACK_FALLBACK:-}" = 1 ] || { echo 'FAILED: this is a software adapter, no GPU' >&2; exit 4; }
     echo 'DRY RUN on a software adapter: the figures below say nothing of a GPU' ;;
  *) echo "FAILED: WebGPU finds no adapter; driver's libraries: ${driver:-not found}" >&2; exit 3 ;;
esac
[ "$name" != probe ] || exit 0
cd "$room"
exec bin/node "$name.mjs" "$@"
