// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// issuer is an authority that issues and revokes.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newIssuer(t *testing.T, name string, above *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	i := &issuer{t: t, key: key}
	parent, signer := x, key
	if above != nil {
		parent, signer = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, x, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	i.cert, _ = x509.ParseCertificate(der)
	i.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return i
}

// client issues a certificate for a client.
func (i *issuer) client(serial int64, chain ...*issuer) tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, x, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, above := range chain {
		c.Certificate = append(c.Certificate, above.cert.Raw)
	}
	return c
}

// list revokes serial numbers, in DER.
func (i *issuer) list(next time.Time, extra []pkix.Extension, serials ...int64) []byte {
	i.t.Helper()
	x := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next, ExtraExtensions: extra}
	for _, s := range serials {
		x.RevokedCertificateEntries = append(x.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, x, i.cert, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return der
}

func inPEM(lists ...[]byte) (out []byte) {
	for _, der := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}

func TestRevokedCertificates(t *testing.T) {
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	root, other := newIssuer(t, "root", nil), newIssuer(t, "other", nil)
	mid := newIssuer(t, "mid", root)
	namesake := newIssuer(t, "root", nil)
	d := dir{t, t.TempDir()}
	d.install(newIdentity(t, "server", 365*24*time.Hour))
	d.put("ca.pem", append(append(append([]byte{}, root.pem...), other.pem...), mid.pem...))
	o := d.options()
	o.ClientAuth, o.ClientCAFile, o.ClientCRLFile = Required, d.file("ca.pem"), d.file("crl")
	for _, c := range []struct {
		name   string
		crl    []byte
		client tls.Certificate
		want   string // in the error; empty is that it comes in
	}{
		{"not on the list, DER", root.list(soon, nil, 5, 6), root.client(7), ""},
		{"on the list, DER", root.list(soon, nil, 5, 6), root.client(6), "is revoked"},
		{"on the list, PEM", inPEM(other.list(soon, nil), root.list(soon, nil, 6)), root.client(6), "is revoked"},
		{"on the list of another", inPEM(other.list(soon, nil, 6), root.list(soon, nil)), root.client(6), ""},
		{"a list that has expired", root.list(past, nil, 5), root.client(7), "has expired"},
		{"a newer list beside it", inPEM(root.list(past, nil, 7), root.list(soon, nil, 5)), root.client(7), ""},
		{"no list of its issuer", root.list(soon, nil), other.client(7), "has no list"},
		{"by one in the middle", inPEM(root.list(soon, nil), mid.list(soon, nil)), mid.client(7, mid), ""},
		{"revoked in the middle", inPEM(root.list(soon, nil), mid.list(soon, nil, 7)), mid.client(7, mid), "is revoked"},
	} {
		d.put("crl", c.crl)
		l := &log{}
		o.Logger = l.logger()
		r := load(t, o)
		client := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c.client}}
		verdict := ""
		server := r.current.Load().Clone()
		inner := server.VerifyConnection
		server.VerifyConnection = func(s tls.ConnectionState) error {
			err := inner(s)
			if err != nil {
				verdict = err.Error()
			}
			return err
		}
		_, _, err := shake(t, server, client)
		if (err == nil) != (c.want == "") || !strings.Contains(verdict, c.want) {
			t.Errorf("%s: %v, %s; want %q", c.name, err, verdict, c.want)
		}
		if n := l.count("has expired"); (n > 0) != (strings.Contains(c.name, "expired") || strings.Contains(c.name, "newer")) {
			t.Errorf("%s: an expired list was told %d times", c.name, n)
		}
		r.Close()
	}
	// Files that are of no use stop the start, and change nothing later.
	d.put("crl", root.list(soon, nil, 6))
	r := load(t, o)
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	for what, bad := range map[string][]byte{
		"not signed by an authority of tls.client_ca": namesake.list(soon, nil), "in PEM or DER": []byte("nothing"), "must be understood": root.list(soon, critical),
		"of type": root.pem, "no list": {},
	} {
		d.put("crl", bad)
		if _, err := Load(o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
		if err := r.Reload(); err == nil {
			t.Errorf("%s: reloaded", what)
		}
		if _, _, err := shake(t, r.Config(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{root.client(6)}}); err == nil {
			t.Errorf("%s: a revoked certificate came in", what)
		}
	}
	// A new list is in force with the next handshake, for sessions that are resumed too.
	d.put("crl", root.list(soon, nil))
	client := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{root.client(6)}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	until(t, "the new list to be in force", func() bool {
		_, _, err := shake(t, r.Config(), client)
		return err == nil
	})
	if cs, _, err := shake(t, r.Config(), client); err != nil || !cs.DidResume {
		t.Fatalf("resumed %v, %v", cs.DidResume, err)
	}
	d.put("crl", root.list(soon, nil, 6))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shake(t, r.Config(), client); err == nil {
		t.Error("a session was resumed by a revoked certificate")
	}
	o.ClientAuth = None
	if _, err := Load(o); err == nil {
		t.Error("a list without certificates of clients was taken")
	}
}
