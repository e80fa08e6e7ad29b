package main

/*
#cgo LDFLAGS: -lindy_vdr
#include <stdlib.h>
#include <libindy_vdr.h>

// The library calls these, which are written in Go below, on threads of its own.
void agentLedgerRefreshed(CallbackId id, ErrorCode code);
void agentLedgerReplied(CallbackId id, ErrorCode code, char *reply);
*/
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/cgo"
	"time"
	"unsafe"
)

const (
	// ledgerSettings are seconds; the library's own are for slow networks.
	ledgerSettings = `{"ack_timeout":4,"reply_timeout":3,"conn_active_timeout":4}`
	// ledgerTimeout ends a question that even the library does not end.
	ledgerTimeout = 10 * time.Second
)

var errNoGenesis = errors.New("AGENCY_GENESIS names no file of genesis transactions")

// ledgerError is the library's account of what failed.
type ledgerError struct {
	Code    int64  `json:"code"`
	Message string `json:"message"`
}

func (e *ledgerError) Error() string { return e.Message }

// ledger is a pool of nodes that keep a ledger together. It is opened when it is first
// asked for, so that neither a bad file nor nodes that are down keep the service from
// starting.
type ledger struct {
	genesis string
	pool    C.PoolHandle  // 0 until it is open
	turn    chan struct{} // full while someone asks: the library has one last error for all
}

func newLedger(genesis string) *ledger {
	return &ledger{genesis: genesis, turn: make(chan struct{}, 1)}
}

// status asks the nodes whether they are where we are, follows them if they are not, and
// returns the library's description of the ledger, which is JSON.
func (l *ledger) status(ctx context.Context) (json.RawMessage, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// What is begun is waited for, even if the client leaves, so that nobody else's turn
	// comes before its error is taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
	defer cancel()
	if err := l.open(); err != nil {
		return nil, err
	}
	refresh := func(id C.CallbackId) C.ErrorCode {
		return C.indy_vdr_pool_refresh(l.pool, (*[0]byte)(C.agentLedgerRefreshed), id)
	}
	if _, err := ask(ctx, refresh); err != nil {
		return nil, err
	}
	status, err := ask(ctx, func(id C.CallbackId) C.ErrorCode {
		return C.indy_vdr_pool_get_status(l.pool, (*[0]byte)(C.agentLedgerReplied), id)
	})
	return json.RawMessage(status), err
}

// open reads the genesis transactions, which say where the nodes are. It asks no node.
func (l *ledger) open() error {
	if l.pool != 0 {
		return nil
	}
	if l.genesis == "" {
		return errNoGenesis
	}
	parameters, err := json.Marshal(map[string]string{"transactions_path": l.genesis})
	if err != nil {
		return err
	}
	settings := C.CString(ledgerSettings)
	defer C.free(unsafe.Pointer(settings))
	if code := C.indy_vdr_set_config(settings); code != C.Success {
		return lastError(code)
	}
	if code := C.indy_vdr_set_protocol_version(C.Node1_4); code != C.Success {
		return lastError(code)
	}
	pool := C.CString(string(parameters))
	defer C.free(unsafe.Pointer(pool))
	if code := C.indy_vdr_pool_create(pool, &l.pool); code != C.Success {
		return lastError(code)
	}
	return nil
}

type ledgerAnswer struct {
	reply string
	err   error
}

// ask starts something that calls back with the id, and waits for that.
func ask(ctx context.Context, start func(C.CallbackId) C.ErrorCode) (string, error) {
	answers := make(chan ledgerAnswer, 1)
	handle := cgo.NewHandle(answers)
	if code := start(C.CallbackId(handle)); code != C.Success {
		handle.Delete()
		return "", lastError(code)
	}
	select {
	case answer := <-answers:
		return answer.reply, answer.err
	case <-ctx.Done():
		// The handle is the callback's, which may still come.
		return "", fmt.Errorf("libindy_vdr does not answer: %w", ctx.Err())
	}
}

//export agentLedgerRefreshed
func agentLedgerRefreshed(id C.CallbackId, code C.ErrorCode) {
	agentLedgerReplied(id, code, nil)
}

//export agentLedgerReplied
func agentLedgerReplied(id C.CallbackId, code C.ErrorCode, reply *C.char) {
	answer := ledgerAnswer{reply: take(reply)}
	if code != C.Success {
		answer.err = lastError(code)
	}
	handle := cgo.Handle(id)
	handle.Value().(chan ledgerAnswer) <- answer
	handle.Delete()
}

// lastError takes the library's account of a call that returned the code.
func lastError(code C.ErrorCode) error {
	failure := ledgerError{Code: int64(code), Message: fmt.Sprintf("libindy_vdr failed with code %d", code)}
	var text *C.char
	if C.indy_vdr_get_current_error(&text) == C.Success {
		var told ledgerError
		if err := json.Unmarshal([]byte(take(text)), &told); err == nil && told.Message != "" {
			failure = told
		}
	}
	return &failure
}

// take copies a string of the library's, which may be null, and gives it back.
func take(text *C.char) string {
	defer C.indy_vdr_string_free(text)
	return C.GoString(text)
}

func indyVersion() string {
	return take(C.indy_vdr_version())
}
