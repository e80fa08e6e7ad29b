#!/bin/sh
# Takes what a build installed below STAGE over to OUT: headers, libraries and pkg-config
# files, as a sysroot has them.
# finish.sh STAGE OUT SYSROOT TRIPLE shared|static|both STRIP-SHARED STRIP-ARCHIVES
set -eu
stage=$1 out=$2 sysroot=$3 triple=$4 link=$5 strip_shared=$6 strip_archives=$7
usr=$stage/usr
# Some builds install below /usr/local or /, whatever they are told.
for other in "$stage/usr/local" "$stage"; do
    for part in include lib lib64 share; do
        if test -d "$other/$part" && test ! -L "$other/$part"; then
            mkdir -p "$usr/$part"
            cp -R "$other/$part/." "$usr/$part/"
        fi
    done
done
libraries=$usr/lib/$triple
mkdir -p "$libraries"
for folder in "$usr/lib" "$usr/lib64"; do
    for file in "$folder"/lib*.so "$folder"/lib*.so.* "$folder"/lib*.a "$folder"/pkgconfig; do
        if test -L "$file" || test -f "$file"; then
            mv "$file" "$libraries/"
        elif test -d "$file"; then
            mkdir -p "$libraries/pkgconfig"
            mv "$file"/* "$libraries/pkgconfig/"
        fi
    done
done
mkdir -p "$out/usr/lib"
cp -R "$libraries" "$out/usr/lib/"
kept=$out/usr/lib/$triple
# libtool's files hold the folders of the build; pkg-config's say the same.
find "$kept" -name '*.la' -exec rm -f {} +
case $link in
shared) rm -f "$kept"/lib*.a ;;
static) rm -f "$kept"/lib*.so "$kept"/lib*.so.* ;;
esac
for file in "$kept"/lib*.so "$kept"/lib*.so.*; do
    if test -n "$strip_shared" && test -f "$file" && test ! -L "$file" &&
        test "$(head -c 4 "$file" | tail -c 3)" = ELF; then
        chmod u+w "$file"
        strip "$strip_shared" "$file"
    fi
done
for file in "$kept"/lib*.a; do
    if test -n "$strip_archives" && test -f "$file"; then
        chmod u+w "$file"
        strip "$strip_archives" "$file"
    fi
done
if test -d "$usr/include"; then cp -R "$usr/include" "$out/usr/"; fi
for folder in share/pkgconfig share/cmake lib/cmake; do
    if test -d "$usr/$folder"; then
        mkdir -p "$out/usr/$folder"
        cp -R "$usr/$folder/." "$out/usr/$folder/"
    fi
done
# Where other libraries were found is where the sysroot was.
find "$out/usr" -name '*.cmake' -exec sed -i "s#$sysroot/#\${CMAKE_SYSROOT}/#g" {} +
find "$out/usr" -name '*.pc' -exec sed -i "s#$sysroot/#/#g" {} +
