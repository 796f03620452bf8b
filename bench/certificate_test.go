// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"testing"
)

func TestCertificateIsTakenByItsClientsOnly(t *testing.T) {
	c, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.(*tls.Conn).Handshake() // the client tells
				conn.Close()
			}()
		}
	}()
	conn, err := tls.Dial("tcp4", l.Addr().String(), c.client)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if state := conn.ConnectionState(); state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519 {
		t.Errorf("it speaks version %#x on curve %v", state.Version, state.CurveID)
	}
	if _, err := tls.Dial("tcp4", l.Addr().String(), other.client); err == nil {
		t.Error("a certificate of somebody else is taken")
	}
}
