// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/noctule/noctule/server/config"
)

// A certificate is the TLS side of one listener. Its files are read by load and again at each reload; connections made
// after that see the new ones.
type certificate struct {
	current atomic.Pointer[tls.Config]
}

// loadCertificates reads the files of all listeners; the result has nil for those without TLS.
func loadCertificates(c *config.Config) ([]*certificate, error) {
	all := make([]*certificate, len(c.Listeners))
	var found config.Mistakes
	for i := range c.Listeners {
		if c.Listeners[i].TLS.Cert == "" {
			continue
		}
		loaded, problem := readTLS(c, i)
		if problem != nil {
			found = append(found, problem)
			continue
		}
		all[i] = new(certificate)
		all[i].current.Store(loaded)
	}
	if len(found) > 0 {
		return nil, found
	}
	return all, nil
}

// serverConfig is what the transport is given: it asks for the files as they are at each handshake.
func (c *certificate) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         c.current.Load().MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	}
}

// readTLS reads the files of listener i.
func readTLS(c *config.Config, i int) (*tls.Config, *config.Mistake) {
	t := c.Listeners[i].TLS
	path := fmt.Sprintf("listeners[%d].tls.", i)
	certPEM, err := os.ReadFile(t.Cert)
	if err != nil {
		return nil, c.Mistake(path+"cert", err.Error(), "")
	}
	keyPEM, err := os.ReadFile(t.Key)
	if err != nil {
		return nil, c.Mistake(path+"key", err.Error(), "")
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, c.Mistake(path+"cert", err.Error(), "name the certificate and the key that belongs to it, both as PEM")
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.MinVersion == "1.3" {
		out.MinVersion = tls.VersionTLS13
	}
	if t.ClientAuth == config.NoClientCert {
		return out, nil
	}
	out.ClientAuth = tls.VerifyClientCertIfGiven
	if t.ClientAuth == config.RequiredClientCert {
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	roots, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, c.Mistake(path+"client_ca", err.Error(), "")
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(roots) {
		return nil, c.Mistake(path+"client_ca", t.ClientCA+" holds no certificate", "name a PEM file with the authority's certificate")
	}
	return out, nil
}
