// Command vault keeps named secrets, encrypted in memory, behind HTTP.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "dev"

const shutdownTimeout = 10 * time.Second

func main() {
	if len(os.Args) > 1 {
		if os.Args[1] != "--version" {
			fmt.Fprintf(os.Stderr, "vault: unknown argument %q; usage: vault [--version]\n", os.Args[1])
			os.Exit(2)
		}
		printVersion()
		return
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("service", "vault"))
	if err := serve(); err != nil {
		slog.Error("service failed", "error", err)
		os.Exit(1)
	}
}

func printVersion() {
	fmt.Println("vault", version)
	fmt.Println(runtime.Version())
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			fmt.Println(module.Path, module.Version)
		}
	}
}

func serve() error {
	key, err := sealingKey()
	if err != nil {
		return err
	}
	address := net.JoinHostPort(setting("AGENCY_ADDRESS", "0.0.0.0"), setting("PORT", "8080"))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           routes(newStore(key)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("listening", "address", listener.Addr().String(), "version", version)

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		slog.Info("shutting down")
	}
	deadline, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	slog.Info("stopped")
	return nil
}

// sealingKey reads VAULT_KEY, 64 hexadecimal digits, or draws a key that dies
// with the process, as the secrets do.
func sealingKey() (*[keyBytes]byte, error) {
	text := os.Getenv("VAULT_KEY")
	if text == "" {
		return randomKey()
	}
	decoded, err := hex.DecodeString(text)
	if err != nil || len(decoded) != keyBytes {
		return nil, fmt.Errorf("VAULT_KEY is not %d hexadecimal digits", 2*keyBytes)
	}
	return (*[keyBytes]byte)(decoded), nil
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
