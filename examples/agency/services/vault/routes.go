package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
)

const maxSecretBytes = 64 << 10

func routes(secrets *store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"status": "ok", "service": "vault", "version": version, "secrets": secrets.count(),
		})
	})
	mux.HandleFunc("PUT /secrets/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		secret, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSecretBytes))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			problem(w, http.StatusRequestEntityTooLarge, "secret is too large")
			return
		} else if err != nil {
			problem(w, http.StatusBadRequest, "cannot read the request")
			return
		}
		created, err := secrets.put(name, secret)
		if err != nil {
			internal(w, err)
			return
		}
		slog.Info("secret stored", "name", name, "bytes", len(secret))
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		reply(w, status, map[string]any{"name": name, "bytes": len(secret)})
	})
	mux.HandleFunc("GET /secrets/{name}", func(w http.ResponseWriter, r *http.Request) {
		secret, ok, err := secrets.get(r.PathValue("name"))
		switch {
		case err != nil:
			internal(w, err)
		case !ok:
			problem(w, http.StatusNotFound, "no such secret")
		default:
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(secret)
		}
	})
	return mux
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Warn("reply not sent", "error", err)
	}
}

func problem(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"error": message})
}

func internal(w http.ResponseWriter, err error) {
	slog.Error("request failed", "error", err)
	problem(w, http.StatusInternalServerError, "internal error")
}
