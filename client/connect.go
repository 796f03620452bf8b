// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
)

// connect makes a connection, up to the CONNACK that accepts it. It runs on the run goroutine, without the mutex.
func (c *Client) connect(server *url.URL) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.opt.ConnectTimeout, errors.New("client: connecting took too long"))
	defer cancel()
	packet, err := c.connectPacket(ctx, server)
	if err != nil {
		return nil, err
	}
	conn, err := c.opt.dial(ctx, server)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	l := &link{
		conn: conn, server: server, version: c.opt.Version, trace: c.opt.Trace,
		wake: make(chan struct{}, 1), gone: make(chan struct{}), written: make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = c.introduce(ctx, l, packet)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close() // the error that matters is err
		return nil, err
	}
	l.grant(&c.opt, packet)
	return l, nil
}

// connectPacket makes the CONNECT of an attempt.
func (c *Client) connectPacket(ctx context.Context, server *url.URL) (*mqtt.Connect, error) {
	o := &c.opt
	c.mu.Lock()
	p := &mqtt.Connect{
		Version: o.Version, ClientID: []byte(c.clientID), KeepAlive: uint16(o.KeepAlive / time.Second),
		CleanStart: o.CleanStart && (o.Version < mqtt.V5 || !c.everUp),
	}
	c.mu.Unlock()
	username, password := o.Username, o.Password
	if server.User != nil && username == "" {
		username = server.User.Username()
		if s, ok := server.User.Password(); ok && password == nil {
			password = []byte(s)
		}
	}
	if o.Credentials != nil {
		var err error
		if username, password, err = o.Credentials(ctx); err != nil {
			return nil, fmt.Errorf("client: credentials: %w", err)
		}
	}
	if err := errors.Join(checkText("user name", username), checkPassword(password)); err != nil {
		return nil, fmt.Errorf("client: credentials: %w", err)
	}
	p.HasUsername, p.Username = username != "" || o.Version < mqtt.V5 && password != nil, []byte(username)
	p.HasPassword, p.Password = password != nil, password
	if o.Will != nil {
		p.HasWill, p.Will = true, o.will()
	}
	if o.Version == mqtt.V5 {
		p.Properties = o.connectProperties()
		if o.Auth != nil {
			data, err := o.Auth.Start(ctx)
			if err != nil {
				return nil, fmt.Errorf("client: authentication: %w", err)
			}
			p.Properties = appendAuth(p.Properties, o.Auth.Method(), data)
		}
	}
	return p, nil
}

func checkPassword(b []byte) error {
	if len(b) > mqtt.MaxString {
		return errors.New("password is longer than 65535 bytes")
	}
	return nil
}

func (o *Options) will() mqtt.Will {
	w := mqtt.Will{Topic: []byte(o.Will.Topic), Payload: o.Will.Payload, QoS: o.Will.QoS, Retain: o.Will.Retain}
	if o.Version == mqtt.V5 {
		if o.Will.Delay > 0 {
			w.Properties = mqtt.AppendPropUint32(w.Properties, mqtt.PropWillDelayInterval, seconds(o.Will.Delay))
		}
		w.Properties = append(w.Properties, o.Will.properties()...)
	}
	return w
}

func (o *Options) connectProperties() (p mqtt.Properties) {
	if o.SessionExpiry > 0 {
		p = mqtt.AppendPropUint32(p, mqtt.PropSessionExpiryInterval, seconds(o.SessionExpiry))
	}
	if o.ReceiveMaximum < 0xFFFF {
		p = mqtt.AppendPropUint16(p, mqtt.PropReceiveMaximum, o.ReceiveMaximum)
	}
	if o.MaxPacket != 0 {
		p = mqtt.AppendPropUint32(p, mqtt.PropMaximumPacketSize, o.MaxPacket)
	}
	if o.TopicAliasesIn != 0 {
		p = mqtt.AppendPropUint16(p, mqtt.PropTopicAliasMaximum, o.TopicAliasesIn)
	}
	if o.RequestResponseInformation {
		p = mqtt.AppendPropBool(p, mqtt.PropRequestResponseInformation, true)
	}
	if o.NoProblemInformation {
		p = mqtt.AppendPropBool(p, mqtt.PropRequestProblemInformation, false)
	}
	return appendUser(p, o.User)
}

// introduce sends CONNECT and reads up to a CONNACK that accepts it, with the exchange of an enhanced authentication between them.
func (c *Client) introduce(ctx context.Context, l *link, packet *mqtt.Connect) error {
	b := packet.Append(nil)
	l.traceSent(b)
	if _, err := l.conn.Write(b); err != nil {
		return err
	}
	for {
		h, body, err := l.read(c.opt.MaxPacket)
		if err != nil {
			return err
		}
		switch h.Type {
		case mqtt.CONNACK:
			return c.receiveConnack(ctx, l, h, body)
		case mqtt.AUTH:
			var a mqtt.Auth
			if err := a.Decode(h, body, l.version); err != nil {
				return err
			}
			if a.Code == mqtt.Success { // only CONNACK ends the exchange here
				return limitError(mqtt.ProtocolError, "AUTH", "success before CONNACK")
			}
			reply, err := c.opt.answerAuth(ctx, &a)
			if err != nil {
				return err
			}
			b := reply.Append(nil, l.version)
			l.traceSent(b)
			if _, err := l.conn.Write(b); err != nil {
				return err
			}
		case mqtt.DISCONNECT:
			return l.receiveDisconnect(h, body)
		default: // [MQTT-3.2.0-1]
			return limitError(mqtt.ProtocolError, h.Type.String(), "the first packet is not a CONNACK")
		}
	}
}

// read waits for a packet.
func (l *link) read(limit uint32) (mqtt.Header, []byte, error) {
	for {
		h, body, ok, err := l.in.next(l.version, limit)
		if err != nil {
			return h, nil, err
		}
		if ok {
			l.traceReceived(h, body)
			return h, body, nil
		}
		if err := l.in.fill(l.conn); err != nil {
			return h, nil, err
		}
	}
}

func (c *Client) receiveConnack(ctx context.Context, l *link, h mqtt.Header, body []byte) error {
	a := &l.connack
	if err := a.Decode(h, body, l.version); err != nil {
		return err
	}
	a.Properties = slices.Clone(a.Properties)
	if a.Code != mqtt.Success {
		return &ReasonError{Packet: mqtt.CONNACK, Code: a.Code, Properties: a.Properties}
	}
	if c.opt.Auth != nil {
		return c.opt.Auth.Done(ctx, propBytes(a.Properties, mqtt.PropAuthenticationData))
	}
	return nil
}

// receiveDisconnect makes an error of a DISCONNECT.
func (l *link) receiveDisconnect(h mqtt.Header, body []byte) error {
	var d mqtt.Disconnect
	if err := d.Decode(h, body, l.version); err != nil {
		return err
	}
	if l.version < mqtt.V5 {
		return limitError(mqtt.ProtocolError, "DISCONNECT", "a server does not send it before 5.0")
	}
	if err := d.CheckServer(); err != nil {
		return err
	}
	return &ReasonError{Packet: mqtt.DISCONNECT, Code: d.Code, Properties: slices.Clone(d.Properties)}
}

// grant takes down what the CONNACK says.
func (l *link) grant(o *Options, packet *mqtt.Connect) {
	l.clientID = string(packet.ClientID)
	l.keepAlive = time.Duration(packet.KeepAlive) * time.Second
	l.expiry = o.SessionExpiry
	l.limits = session.Limits{Version: l.version, ReceiveMaximum: 0xFFFF, OwnMaximum: o.ReceiveMaximum, AliasesIn: o.TopicAliasesIn}
	l.maxQoS, l.retain, l.wildcards, l.shared, l.ids = 2, true, true, l.version == mqtt.V5, l.version == mqtt.V5
	for prop := range l.connack.Properties.All() {
		switch prop.ID {
		case mqtt.PropAssignedClientIdentifier:
			l.clientID = string(prop.Value)
		case mqtt.PropServerKeepAlive: // [MQTT-3.2.2-21]
			l.keepAlive = time.Duration(prop.Uint) * time.Second
		case mqtt.PropSessionExpiryInterval:
			l.expiry = time.Duration(prop.Uint) * time.Second
		case mqtt.PropReceiveMaximum:
			l.limits.ReceiveMaximum = uint16(prop.Uint)
		case mqtt.PropMaximumPacketSize:
			l.limits.MaxPacket = prop.Uint
		case mqtt.PropTopicAliasMaximum:
			l.limits.AliasesOut = min(uint16(prop.Uint), o.TopicAliasesOut)
		case mqtt.PropMaximumQoS:
			l.maxQoS = mqtt.QoS(prop.Uint)
		case mqtt.PropRetainAvailable:
			l.retain = prop.Uint == 1
		case mqtt.PropWildcardSubscriptionAvailable:
			l.wildcards = prop.Uint == 1
		case mqtt.PropSharedSubscriptionAvailable:
			l.shared = prop.Uint == 1
		case mqtt.PropSubscriptionIdentifierAvailable:
			l.ids = prop.Uint == 1
		}
	}
	if o.MaxInflight != 0 {
		l.limits.ReceiveMaximum = min(l.limits.ReceiveMaximum, o.MaxInflight)
	}
}
