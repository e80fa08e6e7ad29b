set -eu
"$CC" $CFLAGS -fPIC -c scripted.c -o scripted.o
"$AR" rcs libscripted.a scripted.o
mkdir -p "$DESTDIR$XSTITCH_LIBDIR" "$DESTDIR/usr/include"
cp libscripted.a "$DESTDIR$XSTITCH_LIBDIR"
cp scripted.h "$DESTDIR/usr/include"
