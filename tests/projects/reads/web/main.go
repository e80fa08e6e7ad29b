package main

import (
	"embed"
	"fmt"
)

//go:embed dist
var files embed.FS

func main() {
	text, _ := files.ReadFile("dist/app.js")
	fmt.Print(string(text))
}
