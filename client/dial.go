// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/noctule/noctule/transport/websocket"
)

// scheme says how the servers of a URL scheme are reached.
type scheme struct {
	port string // empty for unix
	tls  bool
	ws   bool
}

var schemes = map[string]scheme{
	"mqtt": {port: "1883"}, "tcp": {port: "1883"},
	"mqtts": {port: "8883", tls: true}, "tls": {port: "8883", tls: true}, "ssl": {port: "8883", tls: true},
	"ws": {port: "80", ws: true}, "wss": {port: "443", ws: true, tls: true},
	"unix": {},
}

func parseServers(servers []string) ([]*url.URL, error) {
	if len(servers) == 0 {
		return nil, errors.New("client: options: Servers is empty")
	}
	urls := make([]*url.URL, 0, len(servers))
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("client: server: %w", err)
		}
		how, ok := schemes[u.Scheme]
		switch {
		case !ok:
			return nil, fmt.Errorf("client: server %s: the scheme is none of mqtt, tcp, mqtts, tls, ssl, ws, wss, unix", u.Redacted())
		case how.port == "" && u.Path == "":
			return nil, fmt.Errorf("client: server %s: the path of the socket is missing", u.Redacted())
		case how.port != "" && u.Hostname() == "":
			return nil, fmt.Errorf("client: server %s: the host is missing", u.Redacted())
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// dial opens the stream of bytes that MQTT runs in.
func (o *Options) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	how := schemes[u.Scheme]
	open := o.Dial
	if open == nil {
		open = new(net.Dialer).DialContext
	}
	network, address := "unix", u.Path
	if how.port != "" {
		network, address = "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), how.port))
	}
	conn, err := open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if how.tls {
		if conn, err = o.handshake(ctx, conn, u.Hostname()); err != nil {
			return nil, err
		}
	}
	if how.ws {
		return websocket.Client(ctx, conn, u.Host, webPath(u), o.Header)
	}
	return conn, nil
}

func (o *Options) handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	config.ServerName = cmp.Or(config.ServerName, host)
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close() // the error that matters is err
		return nil, err
	}
	return secured, nil
}

func webPath(u *url.URL) string {
	if u.Path == "" {
		return "/mqtt"
	}
	return u.RequestURI()
}
