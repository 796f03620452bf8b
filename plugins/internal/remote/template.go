// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/noctule/noctule/plugin"
)

// Names that stand in templates.
var names = []string{"username", "clientid", "password", "address", "listener", "transport",
	"cert.cn", "cert.dns", "cert.email", "cert.serial", "cert.subject", "cert.issuer"}

// Template is a text with ${names} in it. It is immutable.
type Template struct {
	text  string
	parts []part
}

// part is literal text, or a name.
type part struct {
	text string
	name string
}

// Parse reads a template. $${ stands for ${. without names what must not stand in this one, such as "password".
func Parse(text string, without ...string) (*Template, error) {
	t := &Template{text: text}
	literal := ""
	for rest := text; ; {
		before, after, ok := strings.Cut(rest, "${")
		if !ok {
			t.add(literal + rest)
			return t, nil
		}
		if strings.HasSuffix(before, "$") {
			literal += before[:len(before)-1] + "${"
			rest = after
			continue
		}
		name, after, ok := strings.Cut(after, "}")
		switch {
		case !ok:
			return nil, fmt.Errorf("%q has ${ without }", text)
		case !slices.Contains(names, name):
			return nil, fmt.Errorf("%q: ${%s} is not known; there is %s", text, name, strings.Join(names, ", "))
		case slices.Contains(without, name):
			return nil, fmt.Errorf("%q: ${%s} must not stand there", text, name)
		}
		t.add(literal + before)
		literal = ""
		t.parts = append(t.parts, part{name: name})
		rest = after
	}
}

func (t *Template) add(text string) {
	if text != "" {
		t.parts = append(t.parts, part{text: text})
	}
}

// String is the template as it was written.
func (t *Template) String() string { return t.text }

// Uses reports whether a name stands in it.
func (t *Template) Uses(name string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.name == name })
}

// Constant reports whether no name stands in it.
func (t *Template) Constant() bool {
	return !slices.ContainsFunc(t.parts, func(p part) bool { return p.name != "" })
}

// Expand puts values in, each as escape leaves it. An error of escape, which says that a value cannot stand there, is returned as it is.
func (t *Template) Expand(l *plugin.Login, escape func(string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		v, err := escape(Value(l, p.name))
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

// Split gives the text with place in the place of each name, and the names in order: for queries with arguments.
func (t *Template) Split(place func(i int) string) (text string, names []string) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(place(len(names)))
		names = append(names, p.name)
	}
	return b.String(), names
}

// Verbatim is an escape that changes nothing: for places where any text is safe.
func Verbatim(s string) (string, error) { return s, nil }

// Value is what a name stands for; empty where it is not known.
func Value(l *plugin.Login, name string) string {
	c := l.Client
	switch name {
	case "username":
		return c.Username
	case "clientid":
		return c.ID
	case "password":
		return string(l.Password)
	case "address":
		return Address(c.Remote)
	case "listener":
		return c.Listener
	case "transport":
		return c.Transport
	}
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 {
		return "" // a certificate that nobody vouches for says nothing
	}
	return certificateValue(c.TLS.VerifiedChains[0][0], name)
}

func certificateValue(x *x509.Certificate, name string) string {
	switch {
	case name == "cert.cn":
		return x.Subject.CommonName
	case name == "cert.dns" && len(x.DNSNames) > 0:
		return x.DNSNames[0]
	case name == "cert.email" && len(x.EmailAddresses) > 0:
		return x.EmailAddresses[0]
	case name == "cert.serial":
		return x.SerialNumber.Text(16)
	case name == "cert.subject":
		return x.Subject.String()
	case name == "cert.issuer":
		return x.Issuer.String()
	}
	return ""
}

// Address is the host part of a client's address, empty for a Unix socket.
func Address(a net.Addr) string {
	if a == nil {
		return ""
	}
	if p, err := netip.ParseAddrPort(a.String()); err == nil {
		return p.Addr().Unmap().WithZone("").String()
	}
	return ""
}
