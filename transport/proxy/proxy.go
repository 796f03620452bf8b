// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy reads the header that a load balancer puts before a connection to tell whose it is: PROXY protocol,
// versions 1 and 2. It does no input and output and holds nothing.
package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/pires/go-proxyproto"
)

// Bounds of a header, in bytes.
const (
	maxV1    = 107
	prefixV2 = 16
	// MaxHeader is the most a header may have: 536 bytes, which every receiver must take, are not enough for one that
	// carries a client certificate.
	MaxHeader = prefixV2 + 4096
)

// First bytes of the two versions. No other protocol that MQTT runs on begins so.
const (
	FirstV1 = 'P'
	FirstV2 = 0x0D
)

var (
	// ErrShort says that the header is not complete.
	ErrShort = errors.New("proxy: incomplete header")
	// ErrMalformed says that it is no valid header.
	ErrMalformed = errors.New("proxy: malformed header")
)

// A Header is what a proxy says of the connection it forwards.
type Header struct {
	// Forwarded is false where the proxy speaks for itself (LOCAL, UNKNOWN): the addresses of the socket count then.
	Forwarded   bool
	Source      net.Addr // the client's
	Destination net.Addr // that the client connected to
}

// Parse reads the header at the beginning of b and returns its size in bytes. It returns ErrShort as long as b does not hold all
// of it, which it does not for more than MaxHeader bytes.
func Parse(b []byte) (h Header, size int, err error) {
	size, err = measure(b)
	if err != nil {
		return Header{}, 0, err
	}
	r := bufio.NewReader(bytes.NewReader(b[:size]))
	p, err := proxyproto.Read(r)
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if p.Command.IsLocal() {
		return Header{}, size, nil
	}
	if p.SourceAddr == nil || p.DestinationAddr == nil || p.TransportProtocol.IsDatagram() {
		return Header{}, 0, fmt.Errorf("%w: not a stream", ErrMalformed)
	}
	return Header{Forwarded: true, Source: p.SourceAddr, Destination: p.DestinationAddr}, size, nil
}

// measure finds the end of the header.
func measure(b []byte) (size int, err error) {
	switch {
	case begins(b, proxyproto.SIGV1):
		if len(b) < len(proxyproto.SIGV1) {
			return 0, ErrShort
		}
		if i := bytes.IndexByte(b[:min(len(b), maxV1)], '\n'); i >= 0 {
			return i + 1, nil
		}
		if len(b) < maxV1 {
			return 0, ErrShort
		}
	case begins(b, proxyproto.SIGV2):
		if len(b) < prefixV2 {
			return 0, ErrShort
		}
		size = prefixV2 + int(binary.BigEndian.Uint16(b[prefixV2-2:]))
		if size > MaxHeader {
			return 0, fmt.Errorf("%w: %d bytes", ErrMalformed, size)
		}
		if len(b) < size {
			return 0, ErrShort
		}
		return size, nil
	}
	return 0, ErrMalformed
}

// begins reports whether b begins with the signature, or may when there is more of it.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}
