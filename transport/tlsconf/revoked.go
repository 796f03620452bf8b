// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// revoked is one issuer's list of revoked certificates (RFC 5280, section 5). Immutable.
type revoked struct {
	issuer  string // for people
	subject []byte // the issuer's, as in its certificate
	key     []byte // its public key: names are not unique
	next    time.Time
	serials map[string]bool
}

// revocations are all lists of a file.
type revocations []*revoked

// expired says that a newer list is due. Without it nobody knows what was revoked since.
func (r *revoked) expired(now time.Time) bool { return !r.next.IsZero() && now.After(r.next) }

// parseRevoked reads lists in PEM, or one in DER. Each must be signed by one of the authorities.
func parseRevoked(text, authorities []byte) (revocations, error) {
	issuers := certificatesOf(authorities)
	var all revocations
	add := func(der []byte) error {
		l, err := parseList(der, issuers)
		if err == nil {
			all = append(all, l)
		}
		return err
	}
	if block, _ := pem.Decode(text); block == nil {
		if err := add(text); err != nil {
			return nil, err
		}
		return all, nil
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a PEM block is of type %.32q, not X509 CRL", block.Type)
		}
		if err := add(block.Bytes); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func parseList(der []byte, issuers []*x509.Certificate) (*revoked, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("it is no list of revoked certificates in PEM or DER: %w", err)
	}
	for _, e := range crl.Extensions {
		if e.Critical { // a list for some certificates or reasons only, or one of changes
			return nil, fmt.Errorf("the list of %s has an extension (%s) that must be understood and is not; make a whole one", crl.Issuer, e.Id)
		}
	}
	for _, c := range issuers {
		if !bytes.Equal(c.RawSubject, crl.RawIssuer) || crl.CheckSignatureFrom(c) != nil {
			continue
		}
		r := &revoked{issuer: crl.Issuer.String(), subject: c.RawSubject, key: c.RawSubjectPublicKeyInfo, next: crl.NextUpdate, serials: map[string]bool{}}
		for _, e := range crl.RevokedCertificateEntries {
			r.serials[string(e.SerialNumber.Bytes())] = true
		}
		return r, nil
	}
	return nil, fmt.Errorf("the list of %s is not signed by an authority of tls.client_ca", crl.Issuer)
}

func certificatesOf(text []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
	return all
}

var (
	errRevoked = errors.New("tls: the client's certificate is revoked")
	errNoList  = errors.New("tls: the issuer of the client's certificate has no list of revoked ones")
	errExpired = errors.New("tls: the issuer's list of revoked certificates has expired")
)

// verify refuses revoked certificates of clients, in resumed sessions too. The issuer of the client's own certificate must have a list;
// those above it are looked up where they have one.
func (all revocations) verify(s tls.ConnectionState) error {
	for _, chain := range s.VerifiedChains {
		for i := range max(1, len(chain)-1) {
			l := all.of(chain[min(i+1, len(chain)-1)]) // one that is an authority itself issued itself
			switch {
			case l == nil && i == 0:
				return errNoList
			case l == nil:
				continue
			case l.expired(time.Now()):
				return errExpired
			case l.serials[string(chain[i].SerialNumber.Bytes())]:
				return errRevoked
			}
		}
	}
	return nil
}

// of is the list of an issuer, the newest where there are several.
func (all revocations) of(c *x509.Certificate) *revoked {
	var found *revoked
	for _, l := range all {
		if bytes.Equal(l.subject, c.RawSubject) && bytes.Equal(l.key, c.RawSubjectPublicKeyInfo) && (found == nil || l.next.After(found.next)) {
			found = l
		}
	}
	return found
}
