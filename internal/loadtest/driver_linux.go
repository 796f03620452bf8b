// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loadtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/noctule/noctule/internal/load"
	"github.com/noctule/noctule/mqtt"
)

// newDriver picks the driver: the generator of package load, unless the library is asked for.
func newDriver(ctx context.Context, o *Options, p publication) (driver, Engine, error) {
	if o.Engine == Library {
		return newClientDriver(o, p), Library, nil
	}
	addr, err := resolve(ctx, o)
	if err != nil {
		return nil, "", err
	}
	path := o.Server.EscapedPath()
	s, err := load.NewSwarm(load.SwarmOptions{Addr: addr, Wire: wire(o), Host: o.Server.Host, Path: path, Within: o.Within})
	if err != nil {
		return nil, "", err
	}
	runtime.LockOSThread()
	return &epollDriver{swarm: s, o: o, p: p}, Epoll, nil
}

// wire is what lies between MQTT and the socket.
func wire(o *Options) load.Wire {
	w := load.Wire{WebSocket: o.webSocket()}
	if o.secure() {
		w.TLS = o.TLS.Clone()
		if w.TLS == nil {
			w.TLS = &tls.Config{}
		}
		if w.TLS.ServerName == "" {
			w.TLS.ServerName = o.Server.Hostname()
		}
	}
	return w
}

// resolve finds an address that answers. A literal one is not tried.
func resolve(ctx context.Context, o *Options) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(o.Server.Host); err == nil && ap.Addr().Zone() == "" {
		return ap, nil
	}
	c, err := (&net.Dialer{Timeout: o.Within}).DialContext(ctx, "tcp", o.Server.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return c.RemoteAddr().(*net.TCPAddr).AddrPort(), nil
}

// epollDriver plays the clients with the generator of package load.
type epollDriver struct {
	swarm *load.Swarm
	o     *Options
	p     publication
}

func (d *epollDriver) open(c *client) error {
	l := &load.Login{
		ClientID: c.id, Username: c.username, Password: d.o.Password, Version: byte(d.o.Version),
		KeepAlive: uint16(d.o.KeepAlive / time.Second), Clean: d.o.Clean,
	}
	e := &epollLink{client: c}
	if c.pub != nil {
		e.message = load.NewPublication(c.pub.topic, d.p.payload, byte(d.p.qos), d.p.retain, byte(d.o.Version))
	}
	c.link = e
	m, err := d.swarm.Open(l, c.filters, byte(d.p.qos), epollHandler{e})
	e.member = m
	if err != nil {
		return fmt.Errorf("client %s: %w", c.id, err)
	}
	return nil
}

func (d *epollDriver) step(ctx context.Context, wait time.Duration) error {
	return d.swarm.Step(ctx, wait)
}

func (d *epollDriver) now() time.Time { return d.swarm.Now() }

func (d *epollDriver) leave(ctx context.Context, within time.Duration) error {
	d.swarm.Leave(ctx, within) // a broker that does not hang up breaks no promise
	return nil
}

func (d *epollDriver) close() {
	d.swarm.Close()
	runtime.UnlockOSThread()
}

// epollLink is a member of the swarm.
type epollLink struct {
	client  *client
	member  *load.Member
	message *load.Publication
}

func (l *epollLink) room() bool    { return l.member.Room() }
func (l *epollLink) quota() uint16 { return uint16(l.member.Quota()) }

func (l *epollLink) publish(id uint16, s stamp) {
	if l.client.run.o.Message == nil {
		s.put(l.message.Payload)
	}
	l.member.Publish(l.message, id)
}

// epollHandler passes on what happens to a member.
type epollHandler struct{ *epollLink }

func (h epollHandler) Ready()                       { h.client.ready() }
func (h epollHandler) Lost(err error)               { h.client.ended(err) }
func (h epollHandler) Writable()                    { h.client.writable() }
func (h epollHandler) Acked(id uint16, reason byte) { h.client.acked(id, reason) }
func (h epollHandler) Message(_, payload []byte, qos byte) {
	h.client.message(payload, mqtt.QoS(qos))
}
