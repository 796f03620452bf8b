// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/server/config"
)

// certificateNames is the plug-in auth.certificate: it lets clients in that showed a valid certificate, with a name of the
// certificate as user name, on the listeners that say so. It is always there and asked first; it decides nothing elsewhere.
type certificateNames struct {
	from map[string]config.UsernameFrom // by listener
}

var _ plugin.Authenticator = (*certificateNames)(nil)

// newCertificateNames returns nil where no listener wants it.
func newCertificateNames(c *config.Config) *certificateNames {
	from := map[string]config.UsernameFrom{}
	for _, l := range c.Listeners {
		if l.TLS.UsernameFrom != config.FromNothing {
			from[l.Name] = l.TLS.UsernameFrom
		}
	}
	if len(from) == 0 {
		return nil
	}
	return &certificateNames{from}
}

// Name implements plugin.Plugin.
func (*certificateNames) Name() string { return "auth.certificate" }

// Authenticate implements plugin.Authenticator. A certificate that has no usable name is refused: its holder must not come in
// by another name.
func (p *certificateNames) Authenticate(_ context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	from := p.from[l.Client.Listener]
	state := l.Client.TLS
	if from == config.FromNothing || state == nil || len(state.VerifiedChains) == 0 {
		return plugin.Decision{}, plugin.Identity{}, nil
	}
	name := nameOf(state.VerifiedChains[0][0], from)
	if !usable(name) {
		return plugin.Decision{Verdict: plugin.Deny, Rule: fmt.Sprintf("certificate name %q", name)}, plugin.Identity{}, nil
	}
	return plugin.Decision{Verdict: plugin.Allow, Rule: "certificate"}, plugin.Identity{Username: name}, nil
}

// nameOf takes a name from a certificate, the first of its kind; empty if there is none.
func nameOf(c *x509.Certificate, from config.UsernameFrom) string {
	switch {
	case from == config.FromCommonName:
		return c.Subject.CommonName
	case from == config.FromDNS && len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case from == config.FromEmail && len(c.EmailAddresses) > 0:
		return c.EmailAddresses[0]
	case from == config.FromSubject:
		return c.Subject.String()
	case from == config.FromSerial:
		return c.SerialNumber.Text(16)
	}
	return ""
}

// usable says whether a name may be a user name: it may enter topic patterns and logs.
func usable(name string) bool {
	return name != "" && len(name) <= 65535 && utf8.ValidString(name) && !strings.ContainsAny(name, "+#/") &&
		!strings.ContainsFunc(name, unicode.IsControl)
}
