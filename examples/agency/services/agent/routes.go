package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
)

const maxMessageBytes = 64 << 10

func routes(keys *keyPair, ledger *ledger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"status": "ok", "service": "agent", "version": version,
			"libsodium": sodiumVersion(), "libzmq": zmqVersion(), "libindy_vdr": indyVersion(),
		})
	})
	mux.HandleFunc("POST /seal", func(w http.ResponseWriter, r *http.Request) {
		message, ok := body(w, r)
		if !ok {
			return
		}
		sealed, err := keys.seal(message)
		if err != nil {
			internal(w, err)
			return
		}
		slog.Info("message sealed", "bytes", len(message))
		reply(w, http.StatusOK, map[string]string{
			"sealed":     base64.StdEncoding.EncodeToString(sealed),
			"public_key": base64.StdEncoding.EncodeToString(keys.public),
		})
	})
	mux.HandleFunc("POST /open", func(w http.ResponseWriter, r *http.Request) {
		text, ok := body(w, r)
		if !ok {
			return
		}
		sealed, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			problem(w, http.StatusBadRequest, "message is not base64")
			return
		}
		message, err := keys.open(sealed)
		if err != nil {
			problem(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(message)
	})
	mux.HandleFunc("GET /peers", func(w http.ResponseWriter, _ *http.Request) {
		answer, elapsed, err := roundTrip("ping")
		if err != nil {
			internal(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]any{"peers": []map[string]any{{
			"endpoint": "inproc://peers", "reply": answer, "microseconds": elapsed.Microseconds(),
		}}})
	})
	mux.HandleFunc("GET /ledger", func(w http.ResponseWriter, r *http.Request) {
		status, err := ledger.status(r.Context())
		if err != nil {
			slog.Warn("ledger not reached", "error", err)
			unavailable(w, err)
			return
		}
		reply(w, http.StatusOK, status)
	})
	return mux
}

// body reads the whole request, or answers it and returns false.
func body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessageBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		problem(w, http.StatusRequestEntityTooLarge, "message is too large")
		return nil, false
	} else if err != nil {
		problem(w, http.StatusBadRequest, "cannot read the request")
		return nil, false
	}
	return content, true
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

// unavailable tells what a library that the service depends on said, with its code.
func unavailable(w http.ResponseWriter, err error) {
	body := map[string]any{"error": err.Error()}
	if failure := (*ledgerError)(nil); errors.As(err, &failure) {
		body["code"] = failure.Code
	}
	reply(w, http.StatusServiceUnavailable, body)
}

func internal(w http.ResponseWriter, err error) {
	slog.Error("request failed", "error", err)
	problem(w, http.StatusInternalServerError, "internal error")
}
