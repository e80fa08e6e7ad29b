// Command torture-go prints what a cgo build may leak.
package main

/*
#cgo LDFLAGS: -lm
#include <math.h>

static double torture_hypotenuse(double a, double b) {
	return hypot(a, b);
}

static const char *torture_file(void) {
	return __FILE__;
}
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
)

// version is set by the linker.
var version = "dev"

func main() {
	fmt.Println("torture-go", version)
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		return
	}
	if length := float64(C.torture_hypotenuse(3, 4)); length != 5 {
		fmt.Fprintln(os.Stderr, "torture-go: the C function is miscompiled:", length)
		os.Exit(1)
	}
	_, file, line, _ := runtime.Caller(0)
	fmt.Println("C file", C.GoString(C.torture_file()))
	fmt.Printf("Go file %s:%d\n", file, line)
}
