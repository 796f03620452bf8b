// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/transport/tlsconf"
)

// certificates are the TLS files of the listeners, by their place in the list; nil for those without. They follow their files
// until close.
type certificates []*tlsconf.Reloader

// loadCertificates reads the files of all listeners, or says what is wrong with each.
func loadCertificates(c *config.Config, log *slog.Logger) (certificates, error) {
	all := make(certificates, len(c.Listeners))
	var found config.Mistakes
	for i := range c.Listeners {
		t := &c.Listeners[i].TLS
		if t.Cert == "" {
			continue
		}
		r, err := tlsconf.Load(tlsOptions(t, log))
		if err != nil {
			option := fmt.Sprintf("listeners[%d].tls", i)
			found = append(found, c.Mistake(option, err.Error(), "name PEM files that belong together and that this user may read"))
			continue
		}
		all[i] = r
	}
	if len(found) > 0 {
		all.close()
		return nil, found
	}
	return all, nil
}

func tlsOptions(t *config.TLS, log *slog.Logger) tlsconf.Options {
	o := tlsconf.Options{
		CertFile: t.Cert, KeyFile: t.Key, ClientCAFile: t.ClientCA, ClientCRLFile: t.ClientCRL, MinVersion: tls.VersionTLS12, Logger: log,
		ClientAuth: map[config.ClientAuth]tlsconf.ClientAuth{
			config.OptionalClientCert: tlsconf.Optional, config.RequiredClientCert: tlsconf.Required,
		}[t.ClientAuth],
	}
	if t.MinVersion == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	return o
}

// of is what a listener's transport is given; nil without TLS.
func (all certificates) of(i int) *tls.Config {
	if i >= len(all) || all[i] == nil {
		return nil
	}
	return all[i].Config()
}

// reload reads all files now. Those that cannot be used stay as they were.
func (all certificates) reload() error {
	var errs []error
	for _, r := range all {
		if r != nil {
			errs = append(errs, r.Reload())
		}
	}
	return errors.Join(errs...)
}

// close stops following the files.
func (all certificates) close() {
	for _, r := range all {
		if r != nil {
			r.Close() // it always succeeds
		}
	}
}
