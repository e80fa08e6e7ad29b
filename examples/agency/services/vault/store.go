package main

import (
	"crypto/rand"
	"errors"
	"sync"

	"golang.org/x/crypto/nacl/secretbox"
)

const (
	keyBytes   = 32
	nonceBytes = 24
)

var errSealBroken = errors.New("secret does not open with this key")

// store holds sealed secrets by name: a nonce, then the box.
type store struct {
	key    *[keyBytes]byte
	mu     sync.RWMutex
	sealed map[string][]byte
}

func newStore(key *[keyBytes]byte) *store {
	return &store{key: key, sealed: make(map[string][]byte)}
}

func randomKey() (*[keyBytes]byte, error) {
	var key [keyBytes]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, err
	}
	return &key, nil
}

// put seals secret under name and says whether the name is new.
func (s *store) put(name string, secret []byte) (bool, error) {
	var nonce [nonceBytes]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return false, err
	}
	box := secretbox.Seal(nonce[:], secret, &nonce, s.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, existed := s.sealed[name]
	s.sealed[name] = box
	return !existed, nil
}

// get opens the secret called name; false when there is none.
func (s *store) get(name string) ([]byte, bool, error) {
	s.mu.RLock()
	box, ok := s.sealed[name]
	s.mu.RUnlock()
	if !ok {
		return nil, false, nil
	}
	nonce := (*[nonceBytes]byte)(box[:nonceBytes])
	secret, ok := secretbox.Open(nil, box[nonceBytes:], nonce, s.key)
	if !ok {
		return nil, true, errSealBroken
	}
	return secret, true, nil
}

func (s *store) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.sealed)
}
