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
	"encoding/pem"
	"log/slog"
	"math/big"

	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/testkit/memnet"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// identity is a certificate that signed itself.
type identity struct {
	cert, key []byte // PEM
	leaf      *x509.Certificate
	pair      tls.Certificate
}

func newIdentity(t *testing.T, name string, valid time.Duration) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(valid),
		IsCA:         true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	if id.pair, err = tls.X509KeyPair(id.cert, id.key); err != nil {
		t.Fatal(err)
	}
	id.leaf = id.pair.Leaf
	return id
}

func (id identity) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(id.leaf)
	return p
}

// a dir is a directory with the files of a listener.
type dir struct {
	t    *testing.T
	path string
}

func (d dir) file(name string) string { return filepath.Join(d.path, name) }

// put replaces a file as certbot and its like do: by renaming.
func (d dir) put(name string, b []byte) {
	d.t.Helper()
	if err := os.WriteFile(d.file("new"), b, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(d.file("new"), d.file(name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d dir) install(id identity) {
	d.t.Helper()
	d.put("cert.pem", id.cert)
	d.put("key.pem", id.key)
}

func (d dir) options() Options {
	return Options{CertFile: d.file("cert.pem"), KeyFile: d.file("key.pem")}
}

func load(t *testing.T, o Options) *Reloader {
	t.Helper()
	r, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// shake makes a handshake and one exchange, and returns what the client and the server see.
func shake(t *testing.T, server, client *tls.Config) (cs, ss tls.ConnectionState, err error) {
	t.Helper()
	b, a := memnet.Pipe(0)
	s, c := tls.Server(a, server), tls.Client(b, client)
	failed := make(chan error, 1)
	go func() {
		defer a.Close()
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		failed <- err
	}()
	_, cerr := c.Read(make([]byte, 1))
	b.Close()
	serr := <-failed
	if cerr != nil {
		serr = cerr
	}
	return c.ConnectionState(), s.ConnectionState(), serr
}

// served returns the certificate that a client is shown.
func served(t *testing.T, r *Reloader) string {
	t.Helper()
	cs, _, err := shake(t, r.Config(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	return cs.PeerCertificates[0].Subject.CommonName
}

// until waits for the goroutine that follows the files.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// a log collects what was logged.
type log struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestHandshake(t *testing.T) {
	id := newIdentity(t, "one", 365*24*time.Hour)
	d := dir{t, t.TempDir()}
	d.install(id)
	r := load(t, d.options())
	client := &tls.Config{RootCAs: id.pool(), ServerName: "localhost", NextProtos: []string{"mqtt"}}
	cs, _, err := shake(t, r.Config(), client)
	if err != nil || cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "mqtt" {
		t.Errorf("version %x, protocol %q, %v", cs.Version, cs.NegotiatedProtocol, err)
	}
	client.NextProtos = []string{"http/1.1"} // a browser's WebSocket
	if _, _, err := shake(t, r.Config(), client); err != nil {
		t.Error(err)
	}
	client.MinVersion, client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := shake(t, r.Config(), client); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if r.Leaf().Subject.CommonName != "one" {
		t.Errorf("leaf %v", r.Leaf().Subject)
	}
}

func TestLeastVersion(t *testing.T) {
	id := newIdentity(t, "one", 365*24*time.Hour)
	d := dir{t, t.TempDir()}
	d.install(id)
	o := d.options()
	o.MinVersion = tls.VersionTLS13
	r := load(t, o)
	client := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if _, _, err := shake(t, r.Config(), client); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

func TestCertificatesOfClients(t *testing.T) {
	id := newIdentity(t, "server", 365*24*time.Hour)
	known, stranger := newIdentity(t, "known", time.Hour), newIdentity(t, "stranger", time.Hour)
	d := dir{t, t.TempDir()}
	d.install(id)
	d.put("ca.pem", known.cert)
	for _, c := range []struct {
		name string
		auth ClientAuth
		with []tls.Certificate
		want bool
		told string // the common name that the server learns
	}{
		{"none", None, []tls.Certificate{stranger.pair}, true, ""},
		{"optional, without", Optional, nil, true, ""},
		{"optional, known", Optional, []tls.Certificate{known.pair}, true, "known"},
		{"optional, stranger", Optional, []tls.Certificate{stranger.pair}, false, ""},
		{"required, without", Required, nil, false, ""},
		{"required, known", Required, []tls.Certificate{known.pair}, true, "known"},
		{"required, stranger", Required, []tls.Certificate{stranger.pair}, false, ""},
	} {
		o := d.options()
		o.ClientAuth, o.ClientCAFile = c.auth, d.file("ca.pem")
		r := load(t, o)
		client := &tls.Config{InsecureSkipVerify: true}
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(c.with) == 0 {
				return new(tls.Certificate), nil
			}
			return &c.with[0], nil
		}
		_, ss, err := shake(t, r.Config(), client)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		told := ""
		if err == nil && len(ss.VerifiedChains) > 0 {
			told = ss.VerifiedChains[0][0].Subject.CommonName
		}
		if told != c.told {
			t.Errorf("%s: the server learns %q", c.name, told)
		}
	}
}

func TestNewFilesAreTakenIntoUse(t *testing.T) {
	d := dir{t, t.TempDir()}
	d.install(newIdentity(t, "one", 365*24*time.Hour))
	r := load(t, d.options())
	if got := served(t, r); got != "one" {
		t.Fatalf("served %q", got)
	}
	d.install(newIdentity(t, "two", 365*24*time.Hour))
	until(t, "the new certificate", func() bool { return served(t, r) == "two" })
	if n := r.Reloads(); n != 1 {
		t.Errorf("%d reloads", n)
	}
}

func TestBrokenFilesChangeNothing(t *testing.T) {
	var l log
	d := dir{t, t.TempDir()}
	d.install(newIdentity(t, "one", 365*24*time.Hour))
	o := d.options()
	o.Logger, o.Poll = l.logger(), 10*time.Millisecond
	r := load(t, o)
	d.put("cert.pem", []byte("no certificate"))
	until(t, "a complaint", func() bool { return l.count("level=ERROR") > 0 })
	if got := served(t, r); got != "one" {
		t.Errorf("served %q", got)
	}
	if err := r.Reload(); err == nil {
		t.Error("Reload of a broken file succeeds")
	}
	// Another fault is complained about once more, the same one is not.
	if err := os.Remove(d.file("cert.pem")); err != nil {
		t.Fatal(err)
	}
	until(t, "the second complaint", func() bool { return l.count("level=ERROR") > 1 })
	d.install(newIdentity(t, "two", 365*24*time.Hour))
	until(t, "the new certificate", func() bool { return served(t, r) == "two" })
	if n := l.count("level=ERROR"); n > 3 { // the third: a new certificate beside the old key
		t.Errorf("%d complaints", n)
	}
}

// TestLinksIntoAnotherDirectory is how Kubernetes and certbot lay files out: nothing changes where we watch.
func TestLinksIntoAnotherDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // making links needs a privilege there
	}
	d := dir{t, t.TempDir()}
	one, two := dir{t, t.TempDir()}, dir{t, t.TempDir()}
	one.install(newIdentity(t, "one", 365*24*time.Hour))
	two.install(newIdentity(t, "two", 365*24*time.Hour))
	outside := filepath.Join(t.TempDir(), "current")
	link := func(to string) {
		if err := os.Symlink(to, outside+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(outside+".new", outside); err != nil {
			t.Fatal(err)
		}
	}
	link(one.path)
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink(filepath.Join(outside, name), d.file(name)); err != nil {
			t.Fatal(err)
		}
	}
	o := d.options()
	o.Poll = 10 * time.Millisecond
	r := load(t, o)
	link(two.path)
	until(t, "the new certificate", func() bool { return served(t, r) == "two" })
}

func TestASessionDoesNotOutliveItsAuthority(t *testing.T) {
	id := newIdentity(t, "server", 365*24*time.Hour)
	old, now := newIdentity(t, "old", time.Hour), newIdentity(t, "now", time.Hour)
	d := dir{t, t.TempDir()}
	d.install(id)
	d.put("ca.pem", old.cert)
	o := d.options()
	o.ClientAuth, o.ClientCAFile = Required, d.file("ca.pem")
	r := load(t, o)
	client := &tls.Config{
		RootCAs: id.pool(), ServerName: "localhost", Certificates: []tls.Certificate{old.pair},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for _, resumed := range []bool{false, true} {
		if cs, _, err := shake(t, r.Config(), client); err != nil || cs.DidResume != resumed {
			t.Fatalf("resumed %t, %v; want %t", cs.DidResume, err, resumed)
		}
	}
	d.put("ca.pem", now.cert)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shake(t, r.Config(), client); err == nil {
		t.Error("a client of the old authority is let in by its session")
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name  string
		valid time.Duration
		mode  os.FileMode
		want  string
	}{
		{"expired", -time.Minute, 0o600, "has expired"},
		{"expires soon", 24 * time.Hour, 0o600, "expires soon"},
		{"open key", 365 * 24 * time.Hour, 0o644, "readable by everybody"},
		{"all well", 365 * 24 * time.Hour, 0o640, ""},
	} {
		if c.mode == 0o644 && runtime.GOOS == "windows" {
			continue
		}
		var l log
		d := dir{t, t.TempDir()}
		d.install(newIdentity(t, "one", c.valid))
		if err := os.Chmod(d.file("key.pem"), c.mode); err != nil {
			t.Fatal(err)
		}
		o := d.options()
		o.Logger = l.logger()
		load(t, o)
		if n := l.count("level=WARN"); (n == 1) != (c.want != "") || l.count(c.want) == 0 && c.want != "" {
			t.Errorf("%s: logged %q", c.name, l.b.String())
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	d := dir{t, t.TempDir()}
	one, two := newIdentity(t, "one", time.Hour), newIdentity(t, "two", time.Hour)
	d.install(one)
	d.put("other.pem", two.key)
	d.put("empty.pem", nil)
	for name, change := range map[string]func(*Options){
		"no certificate":         func(o *Options) { o.CertFile = d.file("missing.pem") },
		"no key":                 func(o *Options) { o.KeyFile = d.file("missing.pem") },
		"the key of another":     func(o *Options) { o.KeyFile = d.file("other.pem") },
		"TLS 1.1":                func(o *Options) { o.MinVersion = tls.VersionTLS11 },
		"no authorities":         func(o *Options) { o.ClientAuth = Required },
		"missing authorities":    func(o *Options) { o.ClientAuth, o.ClientCAFile = Required, d.file("missing.pem") },
		"empty authorities":      func(o *Options) { o.ClientAuth, o.ClientCAFile = Optional, d.file("empty.pem") },
		"unknown authentication": func(o *Options) { o.ClientAuth, o.ClientCAFile = 7, d.file("cert.pem") },
	} {
		o := d.options()
		change(&o)
		if r, err := Load(o); err == nil {
			r.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
