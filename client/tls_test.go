// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// certificate makes one that signs itself, for a name.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// CVE-2019-11777 of another client: the host name was not checked.
func TestServerNamesAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair, pool := certificate(t, "good.example")
		s := newServer(t, mqtt.V5)
		go func() {
			for {
				conn, err := s.listener.Accept()
				if err != nil {
					return
				}
				go serveTLS(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}))
			}
		}()
		for url, want := range map[string]bool{"mqtts://good.example": true, "tls://bad.example": false, "wss://bad.example/": false} {
			o := s.options()
			o.Servers, o.TLS = []string{url}, &tls.Config{RootCAs: pool}
			c, err := Dial(t.Context(), o)
			if err == nil {
				c.Close(t.Context())
			}
			if _, refused := errors.AsType[x509.HostnameError](err); refused == want {
				t.Errorf("%s: %v", url, err)
			}
		}
		o := s.options()
		o.Servers = []string{"ssl://good.example"} // whose CA nobody trusts
		if c, err := Dial(t.Context(), o); err == nil {
			c.Close(t.Context())
			t.Error("a certificate of an unknown CA was accepted")
		}
	})
}

// serveTLS grants one CONNECT and waits for the end.
func serveTLS(conn net.Conn) {
	defer conn.Close()
	var in inBuffer
	for {
		h, _, ok, err := in.next(mqtt.V5, 0)
		switch {
		case err != nil || h.Type == mqtt.DISCONNECT:
			return
		case ok && h.Type == mqtt.CONNECT:
			conn.Write((&mqtt.Connack{}).Append(nil, mqtt.V5))
		default:
			if in.fill(conn) != nil {
				return
			}
		}
	}
}
