// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"

	"github.com/noctule/noctule/mqtt"
)

// Authenticator is the client's side of an enhanced authentication, such as SCRAM. One value serves all connections of
// a client, one exchange at a time: Start begins a new one. Methods run on the client's goroutine and may block until
// ctx ends; nothing else is read meanwhile. An error ends the connection. Data handed in belongs to the method.
type Authenticator interface {
	// Method names the authentication method; it never changes.
	Method() string
	// Start gives the data for CONNECT, or for the AUTH that begins a re-authentication. nil is none.
	Start(ctx context.Context) ([]byte, error)
	// Continue answers a step of the server.
	Continue(ctx context.Context, data []byte) ([]byte, error)
	// Done takes the server's last data, nil if there is none, and checks it where the method wants the server to prove itself.
	Done(ctx context.Context, data []byte) error
}

// authPacket makes an AUTH.
func (o *Options) authPacket(code mqtt.ReasonCode, data []byte) *mqtt.Auth {
	return &mqtt.Auth{Code: code, Properties: appendAuth(nil, o.Auth.Method(), data)}
}

func appendAuth(p mqtt.Properties, method string, data []byte) mqtt.Properties {
	p = mqtt.AppendPropString(p, mqtt.PropAuthenticationMethod, method)
	if data != nil {
		p = mqtt.AppendPropBytes(p, mqtt.PropAuthenticationData, data)
	}
	return p
}

// answerAuth takes an AUTH of the server. reply is nil if the exchange is over.
func (o *Options) answerAuth(ctx context.Context, a *mqtt.Auth) (reply *mqtt.Auth, err error) {
	if err := a.CheckServer(); err != nil {
		return nil, err
	}
	if o.Auth == nil {
		return nil, limitError(mqtt.ProtocolError, "AUTH", "no authentication was begun")
	}
	if method, _ := a.Properties.String(mqtt.PropAuthenticationMethod); method != o.Auth.Method() {
		return nil, limitError(mqtt.ProtocolError, "AUTH", "another authentication method")
	}
	data := propBytes(a.Properties, mqtt.PropAuthenticationData)
	if a.Code == mqtt.Success {
		return nil, o.Auth.Done(ctx, data)
	}
	answer, err := o.Auth.Continue(ctx, data)
	if err != nil {
		return nil, err
	}
	return o.authPacket(mqtt.ContinueAuthentication, answer), nil
}

// propBytes copies a property of binary data.
func propBytes(p mqtt.Properties, id mqtt.PropertyID) []byte {
	b, ok := p.Bytes(id)
	if !ok {
		return nil
	}
	return append([]byte{}, b...)
}

// Reauthenticate begins a new exchange on the present connection and waits until the server has accepted it
// [MQTT-4.12.1-1]. If it does not, it ends the connection.
func (c *Client) Reauthenticate(ctx context.Context) error {
	if c.opt.Auth == nil {
		return errors.New("client: reauthenticate: Options.Auth is not set")
	}
	data, err := c.opt.Auth.Start(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	l := c.link
	if l == nil || l.reauth != nil {
		c.mu.Unlock()
		return errors.New("client: reauthenticate: not connected, or under way already")
	}
	done := make(chan error, 1)
	l.reauth = done
	l.send(c.opt.authPacket(mqtt.ReAuthenticate, data))
	c.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receiveAuth takes an AUTH on an established connection. The mutex is not held, for the hook may block.
func (c *Client) receiveAuth(l *link, a *mqtt.Auth) error {
	reply, err := c.opt.answerAuth(c.ctx, a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && l.reauth == nil {
		err = limitError(mqtt.ProtocolError, "AUTH", "no re-authentication was begun")
	}
	if err == nil && reply != nil {
		l.send(reply)
		return nil
	}
	l.endReauth(err)
	return err
}

func (l *link) endReauth(err error) {
	if l.reauth != nil {
		l.reauth <- err // it has room for one
		l.reauth = nil
	}
}
