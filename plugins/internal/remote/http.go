// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// TLSOptions say whom to believe over TLS, and who we are. Part of the options of a plug-in.
type TLSOptions struct {
	// CAFile has the authorities, in PEM, that vouch for the server. Default: those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are our certificate and its key, in PEM, for servers that want one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Plaintext allows passwords to travel unencrypted to another host. Default false.
	Plaintext bool `yaml:"plaintext"`
}

// Config reads the files. serverName is whom to expect, empty where the caller's library knows.
func (o *TLSOptions) Config(serverName string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: no certificate in %s; name a PEM file", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("cert_file and key_file belong together; name both")
	}
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// MayBePlain says whether an address without TLS is in order: on this host, or where the options say so.
func (o *TLSOptions) MayBePlain(host string) error {
	if o.Plaintext || host == "" || host == "localhost" || strings.HasPrefix(host, "/") {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("passwords would travel unencrypted to %s; use TLS, or write plaintext: true if that network is safe", host)
}

// CheckURL reads an address of http or https.
func (o *TLSOptions) CheckURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL", s)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%q is not an address such as https://host/path", s)
	case u.Scheme == "http":
		return u, o.MayBePlain(u.Hostname())
	}
	return u, nil
}

// NewHTTPClient makes a client that follows no redirections, as these would take passwords elsewhere, and holds at most parallel
// connections. Bounds in time come with the context of each request.
func (o *TLSOptions) NewHTTPClient(parallel int) (*http.Client, error) {
	cfg, err := o.Config("")
	if err != nil {
		return nil, err
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig: cfg, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxConnsPerHost: parallel, MaxIdleConnsPerHost: parallel, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 16 << 10,
		},
	}, nil
}

// ReadBody reads an answer whole, and refuses one of more than max bytes.
func ReadBody(r *http.Response, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, max+1))
	if err == nil && int64(len(b)) > max {
		err = fmt.Errorf("the answer is larger than %d bytes", max)
	}
	return b, err
}

// WithoutURL takes the address out of an error of net/http: there may be a password in it.
func WithoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
