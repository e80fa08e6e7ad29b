// Command agent seals messages with libsodium, talks to peers over ZeroMQ and asks an
// Indy ledger.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "dev"

const shutdownTimeout = 10 * time.Second

func main() {
	if len(os.Args) > 1 {
		if os.Args[1] != "--version" {
			fmt.Fprintf(os.Stderr, "agent: unknown argument %q; usage: agent [--version]\n", os.Args[1])
			os.Exit(2)
		}
		printVersion()
		return
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("service", "agent"))
	if err := serve(); err != nil {
		slog.Error("service failed", "error", err)
		os.Exit(1)
	}
}

func printVersion() {
	fmt.Println("agent", version)
	fmt.Println(runtime.Version())
	fmt.Println("libsodium", sodiumVersion())
	fmt.Println("libzmq", zmqVersion())
	fmt.Println("libindy_vdr", indyVersion())
}

func serve() error {
	keys, err := newKeyPair()
	if err != nil {
		return err
	}
	address := net.JoinHostPort(setting("AGENCY_ADDRESS", "0.0.0.0"), setting("PORT", "8080"))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           routes(keys, newLedger(setting("AGENCY_GENESIS", ""))),
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

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
