// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/transport"
)

// notSentLowat bounds what the kernel holds unsent for a client, so that what it does not read is ours to judge.
const notSentLowat = 128 << 10

// A socket is one listening socket; a listener on localhost has two.
type socket struct {
	net.Listener
	others  []net.Listener // of the same address, where each loop has its own
	name    string
	address config.Address
	options transport.ListenerOptions
}

// Close closes all of it.
func (k *socket) Close() error {
	for _, l := range k.others {
		l.Close() // the first one's error says it
	}
	return k.Listener.Close()
}

// serve has the transport serve it until it is closed.
func (k *socket) serve(t transport.Server) error {
	o := k.options
	if len(k.others) == 0 {
		return t.Serve(k.name, k.Listener, o)
	}
	errs := make(chan error)
	for i, l := range append([]net.Listener{k.Listener}, k.others...) {
		one := o
		one.Loop = i + 1
		go func() { errs <- t.Serve(k.name, l, one) }()
	}
	var first error
	for range len(k.others) + 1 {
		if err := <-errs; err != nil && first == nil {
			first = err
			k.Close() // the others are to end too
		}
	}
	return first
}

// multiply opens a socket for each further loop.
func (k *socket) multiply(loops int) error {
	for len(k.others)+1 < loops {
		l, err := transport.Listen(context.Background(), k.Addr().Network(), k.Addr().String(), listenOptions(true))
		if err != nil {
			return err
		}
		k.others = append(k.others, l)
	}
	return nil
}

// url is the address that clients are to use.
func (k *socket) url() string {
	if k.address.Network == "unix" {
		return "unix://" + k.address.Path
	}
	scheme := map[string]string{"": "mqtt", "tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}[k.address.Scheme]
	return scheme + "://" + k.Addr().String()
}

// speaks says in words what a sniffing socket takes.
func (k *socket) speaks() string {
	switch {
	case k.address.Scheme != "":
		return ""
	case k.options.TLS != nil:
		return " (also ws, TLS)"
	}
	return " (also ws)"
}

// openSockets opens the sockets of all listeners, or none.
func (s *Server) openSockets() (_ []*socket, err error) {
	var all []*socket
	defer func() {
		if err != nil {
			for _, k := range all {
				k.Close() // err matters more
			}
		}
	}()
	inherited, err := inheritedSockets()
	if err != nil {
		return nil, err
	}
	for i := range s.config.Listeners {
		l := &s.config.Listeners[i]
		a, err := config.ParseAddress(l.Address)
		if err != nil {
			return all, err
		}
		o := listenerOptions(l, a, s.config, s.certs.of(i))
		opened := inherited.take(l.Name)
		for i := range opened {
			opened[i] = transport.NewListener(opened[i])
		}
		given := len(opened) > 0
		if !given {
			if opened, err = listen(a, listenOptions(l.ReusePort)); err != nil {
				return all, fmt.Errorf("listener %s: %w", l.Name, explain(err, a))
			}
		}
		for _, n := range opened {
			k := &socket{Listener: n, name: l.Name, address: a, options: o}
			all = append(all, k)
			if l.ReusePort && !given && s.config.Transport != config.TransportStd {
				if err = k.multiply(runtime.GOMAXPROCS(0)); err != nil {
					return all, fmt.Errorf("listener %s: %w", l.Name, explain(err, a))
				}
			}
		}
	}
	return all, inherited.unused()
}

// listenerOptions says to the transport what a listener takes.
func listenerOptions(l *config.Listener, a config.Address, c *config.Config, files *tls.Config) transport.ListenerOptions {
	o := transport.ListenerOptions{
		Protocol: map[string]transport.Protocol{
			"": transport.Sniff, "tcp": transport.MQTT, "unix": transport.MQTT, "tls": transport.TLS, "ws": transport.WS, "wss": transport.WSS,
		}[a.Scheme],
		TLS: files, ProxyTrusted: l.Proxy.Prefixes(), WebSocketPaths: l.WebSocket.Paths,
		MaxConnectionsPerAddress: c.Limits.MaxConnectionsPerAddress,
	}
	if len(o.ProxyTrusted) > 0 {
		o.Proxy = transport.ProxyAllowed
	}
	if len(l.WebSocket.Origins) > 0 {
		o.CheckOrigin = origins(l.WebSocket.Origins)
	}
	return o
}

func listenOptions(reusePort bool) transport.ListenOptions {
	return transport.ListenOptions{NotSentLowat: notSentLowat, ReusePort: reusePort}
}

// listen opens the sockets of one address.
func listen(a config.Address, o transport.ListenOptions) ([]net.Listener, error) {
	ctx := context.Background()
	if a.Network == "unix" {
		l, err := listenUnix(ctx, a.Path, o)
		return []net.Listener{l}, err
	}
	if a.Host != "localhost" {
		l, err := transport.Listen(ctx, "tcp", a.HostPort(), o)
		return []net.Listener{l}, err
	}
	four, err := transport.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", a.Port), o)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(four.Addr().String())
	if err != nil {
		four.Close() // err matters more
		return nil, err
	}
	six, err := transport.Listen(ctx, "tcp6", net.JoinHostPort("::1", port), o)
	if err == nil {
		return []net.Listener{four, six}, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) && a.Port != "0" {
		four.Close() // err matters more
		return nil, err
	}
	return []net.Listener{four}, nil // no IPv6 here
}

// listenUnix opens a Unix socket. A file that a dead server left is removed; one that answers is not.
func listenUnix(ctx context.Context, path string, o transport.ListenOptions) (net.Listener, error) {
	l, err := transport.Listen(ctx, "unix", path, o)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if c, dialErr := net.Dial("unix", path); dialErr == nil {
		c.Close() // somebody answered; that is all we wanted to know
		return nil, err
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return transport.Listen(ctx, "unix", path, o)
}

// explain adds to an error of listening what to do about it.
func explain(err error, a config.Address) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: remove reuse_port", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another program, or another broker, listens there; stop it or choose another port", err)
	case errors.Is(err, syscall.EACCES) && a.Network == "tcp":
		return fmt.Errorf("%w: ports below 1024 need a privilege; choose a higher one", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this host does not have that address", err)
	}
	return err
}
