package main

/*
#cgo pkg-config: libzmq
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

// agent_round_trip sends a message to a peer socket of the same process and
// back. It returns the reply's size, or -1 with errno set. One C call, so that
// both sockets stay on one thread, as ZeroMQ asks.
static int agent_round_trip(const char *message, size_t size, char *reply, size_t capacity) {
	const char *endpoint = "inproc://peers";
	const int timeout_ms = 1000, linger_ms = 0;
	char inbox[256];
	int received = -1, saved = 0;
	void *context = zmq_ctx_new();
	void *near = NULL, *far = NULL;
	if (context == NULL) return -1;
	near = zmq_socket(context, ZMQ_PAIR);
	far = zmq_socket(context, ZMQ_PAIR);
	if (near == NULL || far == NULL) goto done;
	void *both[] = {near, far};
	for (int i = 0; i < 2; i++) {
		if (zmq_setsockopt(both[i], ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms) != 0) goto done;
		if (zmq_setsockopt(both[i], ZMQ_SNDTIMEO, &timeout_ms, sizeof timeout_ms) != 0) goto done;
		if (zmq_setsockopt(both[i], ZMQ_LINGER, &linger_ms, sizeof linger_ms) != 0) goto done;
	}
	if (zmq_bind(far, endpoint) != 0 || zmq_connect(near, endpoint) != 0) goto done;
	if (zmq_send(near, message, size, 0) < 0) goto done;
	int echoed = zmq_recv(far, inbox, sizeof inbox, 0);
	if (echoed < 0) goto done;
	if ((size_t)echoed > sizeof inbox) { errno = EMSGSIZE; goto done; }
	if (zmq_send(far, inbox, (size_t)echoed, 0) < 0) goto done;
	received = zmq_recv(near, reply, capacity, 0);
	if (received >= 0 && (size_t)received > capacity) { errno = EMSGSIZE; received = -1; }
done:
	saved = errno;
	if (near != NULL) zmq_close(near);
	if (far != NULL) zmq_close(far);
	zmq_ctx_term(context);
	errno = saved;
	return received;
}
*/
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// roundTrip sends message through ZeroMQ to this process and back.
func roundTrip(message string) (string, time.Duration, error) {
	sent := C.CString(message)
	defer C.free(unsafe.Pointer(sent))
	var reply [256]byte
	start := time.Now()
	size, err := C.agent_round_trip(sent, C.size_t(len(message)),
		(*C.char)(unsafe.Pointer(&reply[0])), C.size_t(len(reply)))
	if size < 0 {
		return "", 0, fmt.Errorf("ZeroMQ round trip: %w", err)
	}
	return string(reply[:size]), time.Since(start), nil
}

func zmqVersion() string {
	var major, minor, patch C.int
	C.zmq_version(&major, &minor, &patch)
	return fmt.Sprintf("%d.%d.%d", int(major), int(minor), int(patch))
}
