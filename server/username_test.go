// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/server/config"
)

func TestCertificateNames(t *testing.T) {
	names := newCertificateNames(load(t, `listeners:
  - {name: cn, address: "tls://127.0.0.1:1", tls: {cert: a, key: b, client_ca: c, client_auth: required, username_from: cn}}
  - {name: dns, address: "tls://127.0.0.1:2", tls: {cert: a, key: b, client_ca: c, client_auth: required, username_from: san_dns}}
  - {name: email, address: "tls://127.0.0.1:3", tls: {cert: a, key: b, client_ca: c, client_auth: optional, username_from: san_email}}
  - {name: none, address: "tls://127.0.0.1:4", tls: {cert: a, key: b, client_ca: c, client_auth: required}}
`))
	cert := func(cn string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"d1", "d2"}, EmailAddresses: []string{"e@x"}}
	}
	verified := func(c *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{c}}, PeerCertificates: []*x509.Certificate{c}}
	}
	for _, c := range []struct {
		what, listener string
		state          *tls.ConnectionState
		verdict        plugin.Verdict
		user           string
	}{
		{"common name", "cn", verified(cert("alice")), plugin.Allow, "alice"},
		{"DNS name", "dns", verified(cert("alice")), plugin.Allow, "d1"},
		{"e-mail", "email", verified(cert("alice")), plugin.Allow, "e@x"},
		{"umlaut", "cn", verified(cert("Jürgen")), plugin.Allow, "Jürgen"},
		{"no certificate", "email", &tls.ConnectionState{}, plugin.Ignore, ""},
		{"not verified", "cn", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert("alice")}}, plugin.Ignore, ""},
		{"no TLS", "cn", nil, plugin.Ignore, ""},
		{"listener without a rule", "none", verified(cert("alice")), plugin.Ignore, ""},
		{"other listener", "other", verified(cert("alice")), plugin.Ignore, ""},
		{"empty name", "cn", verified(cert("")), plugin.Deny, ""},
		{"no DNS name", "dns", verified(&x509.Certificate{}), plugin.Deny, ""},
		{"plus", "cn", verified(cert("a+b")), plugin.Deny, ""},
		{"hash", "cn", verified(cert("#")), plugin.Deny, ""},
		{"slash", "cn", verified(cert("a/b")), plugin.Deny, ""},
		{"line end", "cn", verified(cert("a\nb")), plugin.Deny, ""},
		{"zero", "cn", verified(cert("a\x00")), plugin.Deny, ""},
		{"C1 control", "cn", verified(cert("a\u0085")), plugin.Deny, ""},
		{"not UTF-8", "cn", verified(cert("a\xff")), plugin.Deny, ""},
	} {
		d, id, err := names.Authenticate(t.Context(), &plugin.Login{Client: &plugin.Client{Listener: c.listener, TLS: c.state, Username: "claimed"}})
		if err != nil || d.Verdict != c.verdict || id.Username != c.user {
			t.Errorf("%s: got %s %q %v, want %s %q", c.what, d.Verdict, id.Username, err, c.verdict, c.user)
		}
	}
	if newCertificateNames(load(t, local)) != nil {
		t.Error("there is a plug-in that nobody wants")
	}
}

// authority makes a certificate authority and certificates from it, as files in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes NAME.crt and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	template.SerialNumber, template.Subject = big.NewInt(a.next), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", keyDER)
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) {
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	ca.issue("alice", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ca.issue("a+b", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	r := start(t, Options{Config: load(t, fmt.Sprintf(`admin: {address: off}
listeners:
  - address: "tls://127.0.0.1:0"
    tls: {cert: %[1]s/server.crt, key: %[1]s/server.key, client_ca: %[1]s/ca.crt, client_auth: optional, username_from: cn}
`, ca.dir))})
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, c := range []struct {
		user string
		code byte
	}{{"alice", 0}, {"a+b", 0x86}, {"", 0x86}} {
		conf := &tls.Config{RootCAs: roots}
		if c.user != "" {
			pair, err := tls.LoadX509KeyPair(filepath.Join(ca.dir, c.user+".crt"), filepath.Join(ca.dir, c.user+".key"))
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		conn, err := tls.Dial("tcp", r.address(), conf)
		if err != nil {
			t.Fatal(err)
		}
		if code := connect(t, conn); code != c.code && (c.code == 0 || code == 0) {
			t.Errorf("%q: got reason code %#x, want %#x", c.user, code, c.code)
		}
		conn.Close()
	}
	if got := r.Config().Listeners[0].TLS.UsernameFrom; got != config.FromCommonName {
		t.Errorf("got %d", got)
	}
}

func TestNamesOfCertificates(t *testing.T) {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "lamp", Organization: []string{"Example"}}, SerialNumber: big.NewInt(0xBEEF),
		DNSNames: []string{"lamp.example.org"}, EmailAddresses: []string{"lamp@example.org"}}
	for from, want := range map[config.UsernameFrom]string{
		config.FromCommonName: "lamp", config.FromDNS: "lamp.example.org", config.FromEmail: "lamp@example.org",
		config.FromSubject: "CN=lamp,O=Example", config.FromSerial: "beef", config.FromNothing: "",
	} {
		if got := nameOf(c, from); got != want {
			t.Errorf("%d: %q, want %q", from, got, want)
		}
	}
}
