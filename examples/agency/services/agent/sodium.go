package main

/*
#cgo pkg-config: libsodium
#include <sodium.h>
*/
import "C"

import (
	"errors"
	"unsafe"
)

var (
	errSodium     = errors.New("libsodium did not start")
	errSeal       = errors.New("libsodium did not seal the message")
	errNotForUs   = errors.New("message is not sealed for this agent")
	sealOverhead  = int(C.crypto_box_sealbytes())
	publicKeySize = int(C.crypto_box_publickeybytes())
	secretKeySize = int(C.crypto_box_secretkeybytes())
)

// keyPair is the agent's identity, drawn when it starts.
type keyPair struct {
	public []byte
	secret []byte
}

func newKeyPair() (*keyPair, error) {
	if C.sodium_init() < 0 {
		return nil, errSodium
	}
	pair := &keyPair{make([]byte, publicKeySize), make([]byte, secretKeySize)}
	if C.crypto_box_keypair(pointer(pair.public), pointer(pair.secret)) != 0 {
		return nil, errSodium
	}
	return pair, nil
}

// seal encrypts message so that only the owner of the pair can open it.
func (k *keyPair) seal(message []byte) ([]byte, error) {
	sealed := make([]byte, len(message)+sealOverhead)
	if C.crypto_box_seal(pointer(sealed), pointer(message), C.ulonglong(len(message)), pointer(k.public)) != 0 {
		return nil, errSeal
	}
	return sealed, nil
}

// open decrypts what seal made.
func (k *keyPair) open(sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, errNotForUs
	}
	message := make([]byte, len(sealed)-sealOverhead)
	if C.crypto_box_seal_open(pointer(message), pointer(sealed), C.ulonglong(len(sealed)),
		pointer(k.public), pointer(k.secret)) != 0 {
		return nil, errNotForUs
	}
	return message, nil
}

func sodiumVersion() string {
	return C.GoString(C.sodium_version_string())
}

func pointer(bytes []byte) *C.uchar {
	return (*C.uchar)(unsafe.SliceData(bytes))
}
