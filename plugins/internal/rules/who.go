// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/noctule/noctule/plugin"
)

// Who says which clients a rule is about: those for which all that is given holds. The zero value is everybody.
type Who struct {
	Users     []string // any of them; "" is a client without user name, or with one that nobody vouches for
	Clients   []string // client identifiers, any of them
	Groups    []string // a member of any of them
	Addresses []netip.Prefix
	Fields    []Field
}

// Field is a condition on a claim or on the client's certificate: it is any of the values.
type Field struct {
	Source FieldSource
	Name   string // of a claim
	Values []string
}

// FieldSource is where a field or a variable comes from.
type FieldSource byte

const (
	Username FieldSource = iota + 1
	ClientID
	Claim
	CertCN     // common name of the subject
	CertSAN    // any DNS name, e-mail address, IP address or URI
	CertIssuer // common name of the issuer, or its whole distinguished name
)

// width orders by how many clients one may expect it to be about.
func (w *Who) width() int {
	switch {
	case len(w.Users) > 0:
		return 0
	case len(w.Clients) > 0:
		return 1
	case len(w.Groups) > 0:
		return 2
	case len(w.Addresses)+len(w.Fields) > 0:
		return 3
	}
	return 4
}

// userOf is a client's user name as rules see it: one that nobody vouches for is none.
func userOf(c *plugin.Client) string {
	if c.Anonymous {
		return ""
	}
	return c.Username
}

func (w *Who) includes(c *plugin.Client) bool {
	if len(w.Users) > 0 && !slices.Contains(w.Users, userOf(c)) ||
		len(w.Clients) > 0 && !slices.Contains(w.Clients, c.ID) ||
		len(w.Groups) > 0 && !slices.ContainsFunc(w.Groups, func(g string) bool { return slices.Contains(c.Groups, g) }) ||
		len(w.Addresses) > 0 && !within(w.Addresses, c.Remote) {
		return false
	}
	for i := range w.Fields {
		if !w.Fields[i].holds(c) {
			return false
		}
	}
	return true
}

// within says whether an address is in any of the networks. A Unix socket is in none.
func within(networks []netip.Prefix, remote net.Addr) bool {
	var a netip.Addr
	switch r := remote.(type) {
	case nil:
		return false
	case *net.TCPAddr:
		a = r.AddrPort().Addr()
	case *net.UDPAddr:
		a = r.AddrPort().Addr()
	default:
		p, err := netip.ParseAddrPort(remote.String())
		if err != nil {
			return false
		}
		a = p.Addr()
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

func (f *Field) holds(c *plugin.Client) bool {
	switch f.Source {
	case CertSAN:
		cert := certificate(c)
		return cert != nil && slices.ContainsFunc(f.Values, func(v string) bool { return hasSAN(cert, v) })
	case CertIssuer:
		cert := certificate(c)
		return cert != nil && (slices.Contains(f.Values, cert.Issuer.CommonName) || slices.Contains(f.Values, cert.Issuer.String()))
	}
	v := valueOf(c, f.Source, f.Name)
	return v != "" && slices.Contains(f.Values, v)
}

// valueOf is what a variable stands for, "" where the client has no such thing. It allocates nothing.
func valueOf(c *plugin.Client, s FieldSource, name string) string {
	switch s {
	case Username:
		return userOf(c)
	case ClientID:
		return c.ID
	case Claim:
		if c.Grant != nil {
			return c.Grant.Claims[name]
		}
	case CertCN:
		if cert := certificate(c); cert != nil {
			return cert.Subject.CommonName
		}
	}
	return ""
}

// certificate is the client's, if it was verified.
func certificate(c *plugin.Client) *x509.Certificate {
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 || len(c.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	return c.TLS.VerifiedChains[0][0]
}

func hasSAN(cert *x509.Certificate, v string) bool {
	for _, name := range cert.DNSNames {
		if strings.EqualFold(name, v) {
			return true
		}
	}
	if slices.Contains(cert.EmailAddresses, v) {
		return true
	}
	for _, ip := range cert.IPAddresses {
		if ip.String() == v {
			return true
		}
	}
	for _, u := range cert.URIs {
		if u.String() == v {
			return true
		}
	}
	return false
}
