package main

import (
	"bytes"
	"testing"
)

func TestStore(t *testing.T) {
	key, err := randomKey()
	if err != nil {
		t.Fatal(err)
	}
	secrets := newStore(key)
	if created, err := secrets.put("db", []byte("hunter2")); err != nil || !created {
		t.Fatalf("put: created %v, error %v", created, err)
	}
	if bytes.Contains(secrets.sealed["db"], []byte("hunter2")) {
		t.Error("the secret is in memory unsealed")
	}
	secret, ok, err := secrets.get("db")
	if err != nil || !ok || string(secret) != "hunter2" {
		t.Errorf("get: %q, %v, %v", secret, ok, err)
	}
	if _, ok, _ := secrets.get("other"); ok {
		t.Error("found a secret that was never stored")
	}
	secrets.sealed["db"][nonceBytes] ^= 1
	if _, _, err := secrets.get("db"); err == nil {
		t.Error("opened a box that was tampered with")
	}
}
