// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

type tlsFlags struct {
	caFile, caPath, cert, key, alpn string
	system, insecure                bool
	version                         uint16
}

func (f *clientFlags) setTLSVersion(v string) error {
	switch v {
	case "tlsv1.3":
		f.tls.version = tls.VersionTLS13
	case "tlsv1.2":
		f.tls.version = tls.VersionTLS12
	case "tlsv1.1":
		f.tls.version = tls.VersionTLS11
	default:
		return fmt.Errorf("invalid TLS version %q: there are tlsv1.3, tlsv1.2 and tlsv1.1", v)
	}
	return nil
}

func (f *clientFlags) setKeyForm(v string) error {
	if v != "pem" {
		return errors.New(noEngines)
	}
	return nil
}

// setURL takes -L apart. The topic is as it stands, not decoded.
func (f *clientFlags) setURL(v string) error {
	scheme, rest, _ := strings.Cut(v, "://")
	switch scheme {
	case "mqtt", "mqtts", "ws", "wss":
	default:
		return fmt.Errorf("unsupported URL scheme in %q: there are mqtt, mqtts, ws and wss", v)
	}
	rest, name, found := strings.Cut(rest, "/")
	u, err := url.Parse(scheme + "://" + rest)
	switch {
	case err != nil:
		return fmt.Errorf("invalid URL: %w", err)
	case u.Hostname() == "":
		return fmt.Errorf("invalid URL %q: the host is missing", u.Redacted())
	}
	f.scheme, f.host = scheme, u.Hostname()
	if u.Port() != "" {
		if f.port, err = strconv.Atoi(u.Port()); err != nil || f.port == 0 || f.port > 65535 {
			return fmt.Errorf("invalid port in URL: %s", u.Port())
		}
	}
	if u.User != nil {
		f.username = u.User.Username()
		if p, ok := u.User.Password(); ok {
			f.password = &p
		}
	}
	if !found || name == "" {
		return nil
	}
	return f.addTopic(name)
}

// server makes the URL that package client connects to.
func (f *clientFlags) server() string {
	if f.unix != "" {
		return (&url.URL{Scheme: "unix", Path: f.unix}).String()
	}
	secure, ws := f.secure(), f.ws || strings.HasPrefix(f.scheme, "ws")
	scheme := "mqtt"
	switch {
	case ws && secure:
		scheme = "wss"
	case ws:
		scheme = "ws"
	case secure:
		scheme = "mqtts"
	}
	host := f.host
	if f.port != 0 {
		host = net.JoinHostPort(f.host, strconv.Itoa(f.port))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return (&url.URL{Scheme: scheme, Host: host}).String()
}

// secure tells whether the flags ask for TLS.
func (f *clientFlags) secure() bool {
	t := &f.tls
	return t.caFile != "" || t.caPath != "" || t.system || f.scheme == "mqtts" || f.scheme == "wss" ||
		f.port == 8883 && t.cert == ""
}

func (t *tlsFlags) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: cmp.Or(t.version, tls.VersionTLS12)}
	if t.alpn != "" {
		c.NextProtos = []string{t.alpn}
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.caFile != "" || t.caPath != "" {
		pool, err := t.roots()
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if t.insecure {
		c.InsecureSkipVerify = true // the chain is still verified, the name is not
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	}
	return c, nil
}

func (t *tlsFlags) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if t.system {
		if all, err := x509.SystemCertPool(); err == nil {
			pool = all
		}
	}
	var paths []string
	if t.caFile != "" {
		paths = append(paths, t.caFile)
	}
	if t.caPath != "" {
		entries, err := os.ReadDir(t.caPath)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			paths = append(paths, filepath.Join(t.caPath, e.Name()))
		}
	}
	found := false
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil && path == t.caFile {
			return nil, err
		}
		found = pool.AppendCertsFromPEM(b) || found
	}
	if !found {
		return nil, fmt.Errorf("no CA certificate in %s", strings.Join([]string{t.caFile, t.caPath}, " "))
	}
	return pool, nil
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}

// options makes those of package client. once has the first connection be the only one.
func (f *clientFlags) options(once bool) (client.Options, error) {
	p := &f.props
	o := client.Options{
		Servers: []string{f.server()}, ClientID: f.id, Version: f.version, CleanStart: !f.keepSession,
		KeepAlive: f.keepAlive, PingTimeout: 30 * time.Second, Username: f.username,
		ReceiveMaximum: p.receiveMaximum, MaxPacket: p.maxPacket, TopicAliasesIn: p.aliasesIn, TopicAliasesOut: p.alias,
		RequestResponseInformation: p.responseInformation, NoProblemInformation: p.noProblemInformation,
		NoIdentifiers: true, User: p.user["connect"],
	}
	if f.password != nil {
		o.Password = []byte(*f.password)
	}
	switch {
	case f.expiry != nil:
		o.SessionExpiry = time.Duration(*f.expiry) * time.Second
	case p.expiry != nil:
		o.SessionExpiry = time.Duration(*p.expiry) * time.Second
	case f.keepSession:
		o.SessionExpiry = client.Forever
	}
	if p.authMethod != "" {
		o.Auth = plainExchange{p.authMethod, p.authData}
	}
	if f.will.topic != "" {
		o.Will = &client.Will{Delay: p.willDelay, Message: client.Message{
			Topic: f.will.topic, Payload: []byte(f.will.payload), QoS: f.will.qos, Retain: f.will.retain, Properties: p.will,
		}}
	}
	config, err := f.tls.config(f.host)
	if err != nil {
		return o, err
	}
	o.TLS = config
	if f.bind != "" || f.proxy != "" {
		if o.Dial, err = f.dialer(); err != nil {
			return o, err
		}
	}
	o.Reconnect = func(_ int, cause error) (time.Duration, bool) { return time.Second, !once && !isRefusal(cause) }
	if f.debug {
		o.Trace = func(sent bool, v mqtt.Version, h mqtt.Header, body []byte) {
			word := "received"
			if sent {
				word = "sent"
			}
			f.warn("Client %s %s %s", f.id, word, mqtt.Dump(h, body, v))
		}
	}
	return o, nil
}

// isRefusal tells whether the server does not want this client at all.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*client.ReasonError](err)
	return ok && e.Packet == mqtt.CONNACK
}

// plainExchange is an authentication method whose data is known beforehand, in one step.
type plainExchange struct{ method, data string }

func (e plainExchange) Method() string { return e.method }

func (e plainExchange) Start(context.Context) ([]byte, error) {
	if e.data == "" {
		return nil, nil
	}
	return []byte(e.data), nil
}

func (e plainExchange) Continue(context.Context, []byte) ([]byte, error) {
	return nil, fmt.Errorf("authentication method %s wants more steps than the command line can give", e.method)
}

func (e plainExchange) Done(context.Context, []byte) error { return nil }

func randomID() string { return "noctule-" + strings.ToLower(rand.Text()[:12]) }

// dialer opens connections from -A and through --proxy.
func (f *clientFlags) dialer() (func(context.Context, string, string) (net.Conn, error), error) {
	d := &net.Dialer{}
	if f.bind != "" {
		a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(f.bind, "0"))
		if err != nil {
			return nil, fmt.Errorf("-A: %w", err)
		}
		d.LocalAddr = a
	}
	if f.proxy == "" {
		return d.DialContext, nil
	}
	u, err := url.Parse(f.proxy)
	if err != nil || u.Scheme != "socks5h" || u.Hostname() == "" {
		return nil, errors.New("--proxy must be socks5h://[user[:password]@]host[:port]")
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "1080")))
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		err = socks5(conn, u.User, address)
		if !stop() {
			err = context.Cause(ctx)
		}
		if err != nil {
			conn.Close() // the error that matters is err
			return nil, fmt.Errorf("proxy: %w", err)
		}
		return conn, nil
	}, nil
}

// socks5 asks a proxy to connect to address (RFC 1928, with user name and password as in RFC 1929). The proxy looks up
// the name.
func socks5(conn net.Conn, user *url.Userinfo, address string) error {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || len(host) > 255 {
		return fmt.Errorf("%s cannot be asked for", address)
	}
	method := byte(0)
	if user != nil {
		method = 2
	}
	var answer [2]byte
	if err := exchange(conn, []byte{5, 1, method}, answer[:]); err != nil {
		return err
	}
	if answer != [2]byte{5, method} {
		return errors.New("the proxy wants another way of authentication")
	}
	if user != nil {
		name, password := user.Username(), ""
		if p, ok := user.Password(); ok {
			password = p
		}
		if len(name) > 255 || len(password) > 255 {
			return errors.New("user name or password is longer than 255 bytes")
		}
		login := append([]byte{1, byte(len(name))}, name...)
		login = append(append(login, byte(len(password))), password...)
		if err := exchange(conn, login, answer[:]); err != nil {
			return err
		}
		if answer[1] != 0 {
			return errors.New("the proxy refuses user name or password")
		}
	}
	ask := append([]byte{5, 1, 0, 3, byte(len(host))}, host...)
	ask = append(ask, byte(port>>8), byte(port))
	var head [5]byte
	if err := exchange(conn, ask, head[:]); err != nil {
		return err
	}
	if head[1] != 0 {
		return fmt.Errorf("the proxy cannot connect to %s (code %d)", address, head[1])
	}
	rest := map[byte]int{1: 4 + 2 - 1, 4: 16 + 2 - 1, 3: int(head[4]) + 2}[head[3]]
	_, err = io.ReadFull(conn, make([]byte, rest))
	return err
}

func exchange(conn net.Conn, ask, answer []byte) error {
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, answer)
	return err
}
