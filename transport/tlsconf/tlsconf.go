// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package tlsconf makes TLS configurations for listeners from files, and follows the files: a renewed certificate or another set
// of client authorities is in use with the next handshake, without a restart. Files that cannot be used change nothing.
//
// A Reloader has one goroutine from Load to Close. Its configuration may be used by any number of listeners.
package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// ClientAuth says what is made of certificates of clients.
type ClientAuth byte

const (
	None     ClientAuth = iota // they are not asked for
	Optional                   // one that is given must be good
	Required                   // no connection without a good one
)

// Protocols are offered by ALPN: MQTT, and HTTP for the WebSockets of browsers.
var Protocols = []string{"mqtt", "http/1.1"}

// Defaults and fixed times.
const (
	DefaultPoll = time.Minute
	settleTime  = 200 * time.Millisecond // from a change to reading: certificate and key are two files
	expirySoon  = 14 * 24 * time.Hour
)

// Options say which files are used and how.
type Options struct {
	CertFile string // the chain in PEM, the server's own certificate first
	KeyFile  string // its private key in PEM
	// ClientCAFile holds the authorities, in PEM, that certificates of clients must come from. It is needed unless ClientAuth is None.
	ClientCAFile string
	ClientAuth   ClientAuth
	// ClientCRLFile holds lists of revoked certificates, in PEM or one in DER, signed by those authorities. With it a client's certificate is
	// refused that is on the list of its issuer, or whose issuer has no list or one that has expired. Empty: nothing is revoked.
	ClientCRLFile string
	// MinVersion is the least version of TLS, tls.VersionTLS12 if 0; older ones are refused.
	MinVersion uint16
	// Poll is how often the files are read although nothing told of a change; DefaultPoll if 0. It finds what
	// notifications miss: symbolic links in other directories, network file systems.
	Poll time.Duration
	// Logger gets what an operator must know; nothing is logged if nil.
	Logger *slog.Logger
}

// A Reloader holds the configuration that is in force.
type Reloader struct {
	opts    Options
	config  *tls.Config // asks for current
	current atomic.Pointer[tls.Config]
	reloads atomic.Int64

	mu     sync.Mutex // one load at a time; guards the fields below
	loaded [sha256.Size]byte
	failed [sha256.Size]byte // the files that were complained about

	watcher *fsnotify.Watcher // nil if the system has none
	quit    chan struct{}
	once    sync.Once
	ended   chan struct{}
}

// Load reads the files and follows them until Close.
func Load(o Options) (*Reloader, error) {
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	r := &Reloader{opts: o, quit: make(chan struct{}), ended: make(chan struct{})}
	r.config = &tls.Config{
		MinVersion:         o.MinVersion,
		NextProtos:         Protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.current.Load(), nil },
	}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	r.watch()
	go r.follow()
	return r, nil
}

// check refuses options that contradict each other.
func (o *Options) check() error {
	switch {
	case o.MinVersion < tls.VersionTLS12:
		return errors.New("versions before 1.2 are not safe")
	case o.ClientAuth != None && o.ClientCAFile == "":
		return errors.New("certificates of clients are asked for, and no authority is named to judge them by")
	case o.ClientAuth == None && o.ClientCRLFile != "":
		return errors.New("certificates are revoked, and clients are not asked for any")
	case o.ClientAuth > Required:
		return errors.New("unknown client authentication")
	}
	return nil
}

// Config gives the configuration for listeners, always the same. It speaks for the files in force, and is not to be changed.
//
// Sessions are resumed across a reload, but a client with a certificate only while the authorities in force vouch for it:
// crypto/tls looks at that anew.
func (r *Reloader) Config() *tls.Config { return r.config }

// Leaf gives the server's certificate in force.
func (r *Reloader) Leaf() *x509.Certificate { return r.current.Load().Certificates[0].Leaf }

// Reloads is how often new files were taken into use, not counting Load.
func (r *Reloader) Reloads() int64 { return r.reloads.Load() }

// Close stops following the files. The configuration stays usable.
func (r *Reloader) Close() error {
	r.once.Do(func() { close(r.quit) })
	<-r.ended
	return nil
}

// Reload reads the files now. With an error, what was in force stays so. From any goroutine.
func (r *Reloader) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.opts.read()
	if err != nil {
		return err
	}
	return r.use(f)
}

// files are the contents of what the options name.
type files struct {
	cert, key, authorities, revoked []byte

	sum [sha256.Size]byte
}

// read reads the files.
func (o *Options) read() (f files, err error) {
	if f.cert, err = os.ReadFile(o.CertFile); err != nil {
		return f, fmt.Errorf("tls: certificate: %w", err)
	}
	if f.key, err = os.ReadFile(o.KeyFile); err != nil {
		return f, fmt.Errorf("tls: private key: %w", err)
	}
	if o.ClientCAFile != "" {
		if f.authorities, err = os.ReadFile(o.ClientCAFile); err != nil {
			return f, fmt.Errorf("tls: client authorities: %w", err)
		}
	}
	if o.ClientCRLFile != "" {
		if f.revoked, err = os.ReadFile(o.ClientCRLFile); err != nil {
			return f, fmt.Errorf("tls: revoked certificates: %w", err)
		}
	}
	h := sha256.New()
	for _, b := range [][]byte{f.cert, f.key, f.authorities, f.revoked} {
		fmt.Fprintf(h, "%d\n", len(b)) // a hash takes everything
		h.Write(b)
	}
	h.Sum(f.sum[:0])
	return f, nil
}

// use takes files into use. The caller holds mu.
func (r *Reloader) use(f files) error {
	if f.sum == r.loaded {
		return nil
	}
	cfg, err := r.opts.build(f)
	if err != nil {
		return err
	}
	if r.current.Swap(cfg) != nil {
		r.reloads.Add(1)
		r.opts.Logger.Info("TLS certificate reloaded", "file", r.opts.CertFile, "valid_until", cfg.Certificates[0].Leaf.NotAfter)
	}
	r.loaded = f.sum
	r.warn(cfg.Certificates[0].Leaf)
	return nil
}

// build makes a configuration.
func (o *Options) build(f files) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s, private key %s: %w", o.CertFile, o.KeyFile, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: o.MinVersion, NextProtos: Protocols}
	if o.ClientAuth == None {
		return cfg, nil
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(f.authorities) {
		return nil, fmt.Errorf("tls: client authorities: no certificate in %s", o.ClientCAFile)
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	if o.ClientAuth == Optional {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if o.ClientCRLFile == "" {
		return cfg, nil
	}
	lists, err := parseRevoked(f.revoked, f.authorities)
	if err != nil {
		return nil, fmt.Errorf("tls: revoked certificates: %s: %w", o.ClientCRLFile, err)
	}
	for _, l := range lists {
		if l.expired(time.Now()) {
			o.Logger.Error("a list of revoked certificates has expired: its issuer's certificates are refused until there is a new one",
				"file", o.ClientCRLFile, "issuer", l.issuer, "next_update", l.next)
		}
	}
	cfg.VerifyConnection = lists.verify
	return cfg, nil
}

// warn tells of what works and should not stay as it is.
func (r *Reloader) warn(leaf *x509.Certificate) {
	log := r.opts.Logger
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0:
		log.Warn("TLS certificate has expired", "file", r.opts.CertFile, "valid_until", leaf.NotAfter)
	case left < expirySoon:
		log.Warn("TLS certificate expires soon", "file", r.opts.CertFile, "valid_until", leaf.NotAfter)
	}
	if runtime.GOOS == "windows" {
		return // permissions are not in the mode there
	}
	if st, err := os.Stat(r.opts.KeyFile); err == nil && st.Mode().Perm()&0o004 != 0 {
		log.Warn("TLS private key is readable by everybody on this machine; chmod o-r helps",
			"file", r.opts.KeyFile, "mode", st.Mode().Perm().String())
	}
}
